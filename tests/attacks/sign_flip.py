"""Sign flipping: rows, reference and wrong versions."""

from tests.attacks.case import AttackCase
from tests.attacks.pools import mean, pool_of


def sign_flip(updates, malicious, of="own", factor=1.0):
    return -factor * (updates[malicious] if of == "own" else mean(pool_of(updates, malicious, "full")))


CASES = [
    AttackCase("sign_flip", sign_flip, variant="own"),
    AttackCase("sign_flip", sign_flip, {"of": "mean", "factor": 2.0}, variant="mean"),
]

MUTANTS = {
    "sign_flip": {
        "the sign alone": lambda u, m, of="own", factor=1.0: -sign_flip(u, m, of, factor),
        "without the factor": lambda u, m, of="own", factor=1.0: sign_flip(u, m, of),
        "own where the mean is asked": lambda u, m, of="own", factor=1.0: sign_flip(u, m, "own", factor),
        "the mean of all": lambda u, m, of="own", factor=1.0: (
            sign_flip(u, m, of, factor) if of == "own" else -factor * u.mean(0)
        ),
        "the mean of the attackers": lambda u, m, of="own", factor=1.0: sign_flip(u, ~m, of, factor).mean(0),
    }
}
