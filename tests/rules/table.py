"""The rows of all rules, each in the file that is named like its rule."""

from importlib import import_module
from pkgutil import iter_modules

from fljax.aggregators import POST_AGGREGATORS, PRE_AGGREGATORS, RULES
from tests import rules

_MODULES = [
    import_module(f"tests.rules.{module.name}")
    for module in iter_modules(rules.__path__)
    if not module.name.startswith("test_") and module.name != "table"
]
FAMILIES = [module for module in _MODULES if hasattr(module, "CASES")]
RULE_CASES = [case for family in FAMILIES for case in family.CASES if case.registry is RULES]
PRE_CASES = [case for family in FAMILIES for case in family.CASES if case.registry is PRE_AGGREGATORS]
POST_CASES = [case for family in FAMILIES for case in family.CASES if case.registry is POST_AGGREGATORS]
# Wrong versions by rule and by what is wrong with them; called like the reference.
MUTANTS = {name: versions for family in FAMILIES for name, versions in family.MUTANTS.items()}
