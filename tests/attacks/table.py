"""The rows of all attacks, each in the file that is named like its attack."""

from importlib import import_module
from pkgutil import iter_modules

from tests import attacks

_MODULES = [
    import_module(f"tests.attacks.{module.name}")
    for module in iter_modules(attacks.__path__)
    if not module.name.startswith("test_") and module.name != "table"
]
FAMILIES = [module for module in _MODULES if hasattr(module, "CASES")]
CASES = [case for family in FAMILIES for case in family.CASES]
# Those that change what was trained.
UPDATE_CASES = [
    case for case in CASES if case.rows is not None or (case.data is None and case.trained is None)
]
# Those that change what is trained on.
DATA_CASES = [case for case in CASES if case.data is not None]
# Those that train in a way of their own.
TRAINING_CASES = [case for case in CASES if case.trained is not None]
# Wrong versions by attack and by what is wrong with them, called like the references.
MUTANTS, DATA_MUTANTS, TRAINING_MUTANTS = (
    {name: versions for family in FAMILIES for name, versions in getattr(family, table, {}).items()}
    for table in ("MUTANTS", "DATA_MUTANTS", "TRAINING_MUTANTS")
)
