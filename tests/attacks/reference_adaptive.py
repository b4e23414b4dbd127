"""A slow float64 version of the adaptive attack, written from the paper: whole vectors throughout."""

import numpy as np


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


def trim_rows(updates, malicious, uniforms, stretch=2.0):
    """The Trim attack with full knowledge; `uniforms[i]` are client i's draws in [0, 1)."""
    rows = np.asarray(updates, np.float64)
    crafted = {}
    for i in np.flatnonzero(malicious):
        row = np.zeros(rows.shape[1])
        for j in range(rows.shape[1]):
            direction = np.sign(sum(rows[k, j] for k in range(len(rows))))
            pool = [rows[k, j] for k in range(len(rows)) if not malicious[k]] or list(rows[:, j])
            if direction > 0:
                near = min(pool)
                far = near / stretch if near > 0 else near * stretch
            else:
                near = max(pool)
                far = near * stretch if near > 0 else near / stretch
            if direction != 0:
                row[j] = near + (far - near) * uniforms[i][j]
        crafted[i] = row
    return crafted


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
