"""Model replacement: rows, references and wrong versions."""

from tests.attacks.backdoors import versions
from tests.attacks.case import AttackCase
from tests.attacks.scaling_attack import marked as scaling_marked


def replaced(updates, malicious, server_lr=1.0, **backdoor):
    """Bagdasaryan et al. 2020, equation 3, shared by m attackers."""
    return len(updates) / (server_lr * malicious.sum()) * updates[malicious]


def marked(x, y, is_copy, member, server_lr=1.0, **backdoor):
    return scaling_marked(x, y, is_copy, member, **backdoor)


CASES = [
    AttackCase("model_replacement", replaced, {"server_lr": 0.5, "target": 3}, data=marked),
    AttackCase("model_replacement", replaced, {"server_lr": 2.0}, data=marked, variant="twice the rate"),
]

MUTANTS = {
    "model_replacement": {
        "by all clients": lambda u, m, server_lr=1.0, **_: len(u) / server_lr * u[m],
        "with the rate": lambda u, m, server_lr=1.0, **_: replaced(u, m, 1 / server_lr),
        "without the rate": lambda u, m, server_lr=1.0, **_: replaced(u, m),
        "by the honest clients": lambda u, m, server_lr=1.0, **_: (~m).sum() / (server_lr * m.sum()) * u[m],
        "not at all": lambda u, m, server_lr=1.0, **_: u[m],
    }
}
DATA_MUTANTS = {"model_replacement": versions(marked)}
