"""The Krum attack: rows, references and wrong versions. Each trial stack of the paper is built."""

import numpy as np

from tests.attacks.case import AttackCase, signs_of_run


def krum_choice(rows, f, power=2):
    """The row with the smallest Σ of distances^power to its n − f − 2 nearest others.

    Of equals the one whose next distance is smaller, then the first.
    """
    n, best, chosen = len(rows), None, None
    for i in range(n):
        lengths = np.sqrt(((rows - rows[i]) ** 2).sum(axis=1)) ** power
        others = sorted(lengths[j] for j in range(n) if j != i)
        score = (sum(others[: n - f - 2]), *others[n - f - 2 : n - f - 1])
        if best is None or score < best:
            best, chosen = score, i
    return chosen


def bound(benign, n, c, f, s):
    """Theorem 1 with c crafted rows and a Krum told f; the paper has f = c and ‖s‖² = d."""
    sums = []
    for i in range(len(benign)):
        others = sorted(np.linalg.norm(benign[i] - benign[j]) for j in range(len(benign)) if j != i)
        sums.append(sum(others[: n - f - 2]))
    size = np.sqrt(sum(s**2))
    return min(sums) / ((n - f - c - 1) * size) + max(np.linalg.norm(row) for row in benign) / size


def start_of(benign, n, c, f, s, unit, lambda_init):
    if lambda_init == "one" or n - f - c - 1 <= 0 or len(benign) == 0 or not s.any():
        return unit
    return bound(benign, n, c, f, s)


def search(
    updates,
    malicious,
    f=None,
    threshold=1e-5,
    unit=1.0,
    direction="krum",
    lambda_init="bound",
    power=2,
):
    """(first λ, last λ, s, whether Krum selected −λs), full knowledge."""
    rows = np.asarray(updates, np.float64)
    n, m = len(rows), int(sum(malicious))
    f = min(m, n - 3) if f is None else f
    benign = rows[~malicious]
    if direction == "persistent":
        s = signs_of_run(rows.shape[1])
    else:
        s = np.sign(rows[krum_choice(rows, f, power)] if direction == "krum" else sum(benign))
    start = size = start_of(benign, n, m, f, s, unit, lambda_init)
    while True:
        trial = rows.copy()
        for i in range(n):
            if malicious[i]:
                trial[i] = -size * s
        found = malicious[krum_choice(trial, f, power)]
        if found or size < threshold * unit:
            return start, size, s, found
        size /= 2


def search_partial(
    updates, malicious, threshold=1e-5, unit=1.0, lambda_init="bound", power=2, direction="krum"
):
    """(λ, s, how many crafted rows competed), from the attackers' own rows."""
    own = np.asarray(updates, np.float64)[malicious]
    s = signs_of_run(own.shape[1]) if direction == "persistent" else np.sign(sum(own) / len(own))
    copies = 0
    while True:
        copies += 1
        n = len(own) + copies
        f = min(copies, n - 3) if n > 3 else n - 3
        size = start_of(own, n, copies, f, s, unit, lambda_init)
        while True:
            trial = np.concatenate([own, np.tile(-size * s, (copies, 1))])
            if krum_choice(trial, f, power) >= len(own):
                return size, s, copies
            if size < threshold * unit:
                break
            size /= 2


def krum_attack(updates, malicious, knowledge="full", supporters="copies", spread=0.0, **options):
    """−λs, which supporters at no distance, or copies, repeat."""
    if knowledge == "partial":
        size, s, _ = search_partial(updates, malicious, **options)
    else:
        _, size, s, _ = search(updates, malicious, **options)
    return -size * s


def _case(variant="", **hyper):
    # Supporters are anywhere within the spread; at 0 they are where the row is.
    return AttackCase("krum_attack", krum_attack, {"spread": 0.0, **hyper}, variant=variant)


CASES = [
    _case(),
    _case("partial", knowledge="partial"),
    _case("copies", direction="sum", supporters="copies", power=1),
    _case("from one, persistent", lambda_init="one", direction="persistent"),
    AttackCase("krum_attack", variant="supporters"),
]


def _with(**changes):
    return lambda updates, malicious, **hyper: krum_attack(updates, malicious, **{**hyper, **changes})


MUTANTS = {
    "krum_attack": {
        "with the direction": lambda updates, malicious, **hyper: -krum_attack(updates, malicious, **hyper),
        "λ from one": _with(lambda_init="one"),
        "λ from the bound": _with(lambda_init="bound"),
        "the sign of the sum": _with(direction="sum"),
        "a sign of its own": _with(direction="persistent"),
        "a Krum with distances": _with(power=1),
        "a Krum with squares": _with(power=2),
        "twice λ": lambda updates, malicious, **hyper: 2 * krum_attack(updates, malicious, **hyper),
        "of their own rows": _with(knowledge="partial"),
        "along the mean": lambda updates, malicious, **hyper: (
            -np.abs(krum_attack(updates, malicious, **hyper)) * updates[~malicious].mean(0)
        ),
    }
}
