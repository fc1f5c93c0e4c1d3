"""CASES: one row per optimizer. A new row runs every generic test; a public optimizer without a row fails.

Each file of this folder has the rows of one family; these are the only tests that may name an optimizer.
"""

from importlib import import_module
from pkgutil import iter_modules

from tests.optimizers.cases import OptimizerCase

CASES: tuple[OptimizerCase, ...] = tuple(
    case for module in iter_modules(__path__) for case in import_module(f"{__name__}.{module.name}").CASES
)
