"""The adaptive attack on FLTrust: rows, references and wrong versions. Whole vectors throughout."""

import jax
import numpy as np

from tests.attacks.case import KEY, AttackCase


def unit(vector):
    norm = np.linalg.norm(vector)
    return vector / norm if norm > 0 else np.zeros_like(vector)


def positive(value):
    return value if value > 0 else 0.0


def trust_average(directions, root):
    """Σ ReLU(⟨e_i, e_0⟩) e_i / Σ ReLU(⟨e_i, e_0⟩), zero where nobody is trusted."""
    total, weighted = 0.0, np.zeros(len(root))
    for direction in directions:
        trust = positive(direction @ root)
        total += trust
        weighted += trust * direction
    return weighted / total if total > 0 else np.zeros(len(root))


class Objective:
    """h of Cao et al., 2021, as it stands: of all malicious unit vectors, from whole vectors."""

    def __init__(self, updates, root_update, malicious, scale=1.0):
        self.malicious = np.asarray(malicious)
        self.rows = [unit(row) for row in np.asarray(updates, np.float64)]
        self.root = unit(np.asarray(root_update, np.float64))
        self.length = np.linalg.norm(root_update) / scale
        self.before = trust_average(self.rows, self.root)
        self.sign = np.sign(self.before)

    def __call__(self, vectors):
        """`vectors[i]` replaces client i's direction; it need not be of length 1."""
        attacked = [vectors.get(i, row) for i, row in enumerate(self.rows)]
        return self.length * self.sign @ (self.before - trust_average(attacked, self.root))


def algorithm_3(objective, starts, probes, *, variance, gamma, eta, sweeps, steps):
    """Cao et al., 2021, Algorithm 3; `probes[i][v][t]` are standard normal vectors."""
    vectors = {i: unit(np.asarray(start, np.float64)) for i, start in starts.items()}
    for v in range(sweeps):
        for i in sorted(vectors):
            for t in range(steps):
                u = np.sqrt(variance) * np.asarray(probes[i][v][t], np.float64)
                ahead = {**vectors, i: vectors[i] + gamma * u}
                slope = (objective(ahead) - objective(vectors)) / gamma
                vectors[i] = unit(vectors[i] + eta * slope * u)
    return vectors


def mean_ascent(objective, starts, *, variance, eta, sweeps, steps, width=1e-6):
    """Algorithm 3 with σ² ∂h/∂e'_i for its estimate, by central differences in every coordinate."""
    vectors = {i: unit(np.asarray(start, np.float64)) for i, start in starts.items()}
    for _ in range(sweeps):
        for i in sorted(vectors):
            for _ in range(steps):
                slope = np.zeros(len(vectors[i]))
                for j in range(len(slope)):
                    shift = np.zeros(len(slope))
                    shift[j] = width
                    up, down = ({**vectors, i: vectors[i] + sign * shift} for sign in (1, -1))
                    slope[j] = (objective(up) - objective(down)) / (2 * width)
                vectors[i] = unit(vectors[i] + eta * variance * slope)
    return vectors


def best_found(objective, count, random, tries=3000):
    """The largest h of a random search from many starts, for all attackers together and one by one."""
    clients = np.flatnonzero(objective.malicious)[:count]
    d = len(objective.root)
    best_value, best = -np.inf, None
    candidates = [random.normal(size=d) for _ in range(tries // 2)]
    candidates += [
        np.cos(a) * objective.root - np.sin(a) * unit(objective.sign) for a in np.linspace(0, 3.1, 60)
    ]
    candidates += [-objective.root]
    for candidate in candidates:
        vectors = dict.fromkeys(clients, unit(candidate))
        value = objective(vectors)
        if value > best_value:
            best_value, best = value, vectors
    scale = 0.5
    for k in range(tries):
        # All together at first, one by one afterwards.
        moved = dict(best)
        if k % 2:
            i = random.choice(clients)
            moved[i] = unit(best[i] + scale * random.normal(size=d))
        else:
            shift = scale * random.normal(size=d)
            moved = {i: unit(vector + shift) for i, vector in best.items()}
        value = objective(moved)
        if value > best_value:
            best_value, best = value, moved
        elif k % 20 == 19:
            scale *= 0.93
    return best_value


SWEEPS, STEPS = 1, 2


def draws(key, rows, d, sweeps, steps):
    """The random numbers the documentation promises: of the start, and of the probes."""
    start_key, probe_key = jax.random.split(key)
    uniforms, probes = {}, {}
    for i in map(int, rows):
        uniforms[i] = np.asarray(jax.random.uniform(jax.random.fold_in(start_key, i), (d,)))
        own = jax.random.fold_in(probe_key, i)
        keys = [[jax.random.fold_in(own, v * steps + t) for t in range(steps)] for v in range(sweeps)]
        probes[i] = [[np.asarray(jax.random.normal(k, (d,))) for k in of_sweep] for of_sweep in keys]
    return uniforms, probes


def fltrust_attack(
    updates,
    malicious,
    drawn,
    sweeps,
    steps,
    probe_variance,
    probe_step,
    learning_rate,
    start="honest",
    search="zeroth_order",
    objective=Objective,
    **options,
):
    """Cao et al. 2021, from honest rows, where the server's own update is the mean of all."""
    root = updates.mean(0)
    given = objective(updates, root, malicious)
    starts = {i: updates[i] for i in np.flatnonzero(malicious)}
    if search == "gradient":
        found = mean_ascent(
            given, starts, variance=probe_variance, eta=learning_rate, sweeps=sweeps, steps=steps
        )
    else:
        found = algorithm_3(
            given,
            starts,
            drawn,
            variance=probe_variance,
            gamma=probe_step,
            eta=learning_rate,
            sweeps=sweeps,
            steps=steps,
        )
    return np.linalg.norm(root) * np.array([found[i] for i in sorted(found)])


HYPER = {
    "start": "honest",
    "sweeps": SWEEPS,
    "steps": STEPS,
    "probe_variance": 0.5,
    "probe_step": 0.05,
    "learning_rate": 0.02,
}


def _probes(updates, malicious):
    return (draws(KEY, np.flatnonzero(malicious), updates.shape[1], SWEEPS, STEPS)[1],)


CASES = [
    AttackCase(
        "fltrust_attack",
        fltrust_attack,
        {**HYPER, "probes": "drawn"},
        variant="drawn",
        draws=_probes,
        rtol=3e-3,
    ),
    AttackCase(
        "fltrust_attack",
        fltrust_attack,
        {**HYPER, "search": "gradient"},
        variant="gradient",
        draws=_probes,
        rtol=1e-4,
    ),
    # Other random numbers of the same law, and where the search ends.
    AttackCase("fltrust_attack", hyper={"start": "honest", "sweeps": 1, "steps": 2}, variant="projected"),
    # Rounding leaves the place of an optimum open to the square root of a float32's precision.
    AttackCase("fltrust_attack", hyper={"search": "optimum"}, variant="optimum", mapped_atol=1e-3),
]


class _AgainstTheServer(Objective):
    def __call__(self, vectors):
        return -super().__call__(vectors)


class _Sum(Objective):
    """h with the plain sum in place of the average."""

    def __call__(self, vectors):
        attacked = [vectors.get(i, row) for i, row in enumerate(self.rows)]
        return self.length * self.sign @ (self.before - np.mean(attacked, axis=0))


def _with(**changes):
    return lambda updates, malicious, drawn, **hyper: fltrust_attack(
        updates, malicious, drawn, **{**hyper, **changes}
    )


MUTANTS = {
    "fltrust_attack": {
        "down the objective": _with(objective=_AgainstTheServer),
        "without trust": _with(objective=_Sum),
        "one step fewer": _with(steps=STEPS - 1),
        "no step": _with(steps=0),
        "without the variance": _with(probe_variance=1.0),
        "twice the rate": _with(learning_rate=0.04),
        "of length 1": lambda updates, malicious, drawn, **hyper: (
            fltrust_attack(updates, malicious, drawn, **hyper) / np.linalg.norm(updates.mean(0))
        ),
    }
}
