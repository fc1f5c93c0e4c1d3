"""Nothing is left out: every public optimizer has a row, an oracle, equations, a source; every option has a bound."""

import inspect

import optimizers
from optimizers._base import BlockOptimizer
from optimizers._check import CHECKS
from tests.optimizers.cases import OptimizerCase
from tests.optimizers.rows import CASES

PARTITION_KEYS = {"channel_dims", "channel_groups"}


def public() -> set[type[BlockOptimizer]]:
    values = [getattr(optimizers, name) for name in optimizers.__all__]
    return {value for value in values if inspect.isclass(value) and issubclass(value, BlockOptimizer)}


def test_every_optimizer_has_one_case() -> None:
    assert public() == {case.cls for case in CASES}
    assert len(CASES) == len({case.name for case in CASES})


def test_oracle_or_reason(case: OptimizerCase) -> None:
    assert (case.oracle is None) == ("oracle" in case.skip)


def test_docstring_has_equations_source_and_example(case: OptimizerCase) -> None:
    text = inspect.getdoc(case.cls) or ""
    for part in (".. math::", "Args:", "Source:", "arXiv", "Example:", ">>> "):
        assert part in text, f"the docstring of {case.name} lacks {part!r}"
    missing = [name for name in inspect.signature(case.cls).parameters if f"\n    {name}: " not in text]
    assert not missing, f"undocumented arguments of {case.name}: {missing}"


def test_every_option_is_checked_and_tested(case: OptimizerCase) -> None:
    defaults = set(next(iter(_built(case))).keys()) - {"params", "param_names"}
    assert defaults <= CHECKS.keys() | case.cls.checks.keys() | PARTITION_KEYS
    assert defaults <= {name for kwargs, _ in case.errors for name in kwargs}


def test_reasons_are_given(case: OptimizerCase) -> None:
    assert all(reason for reason in case.skip.values())
    assert all(reason for _, reason in case.tol.values())
    assert set(case.compiles) <= case.configs.keys()


def _built(case: OptimizerCase) -> list[dict[str, object]]:
    from tests.optimizers import problem

    config = next(iter(case.configs.values()))
    return problem.build(case, config, problem.parameters(), "auto").param_groups
