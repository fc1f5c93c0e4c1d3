"""One rule, three paths: foreach equals loop bit for bit, compiled equals loop to rounding and never recompiles."""

import warnings
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config
from torch.optim.lr_scheduler import ExponentialLR

from optimizers import _paths
from optimizers._compile import compiled
from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase


def run(
    case: OptimizerCase, config: Config, impl: str, dtype: torch.dtype, names: Collection[str] = tuple(problem.SHAPES)
) -> dict[str, torch.Tensor]:
    params = {name: p for name, p in problem.parameters(dtype).items() if name in names}
    optimizer = problem.build(case, config, params, impl)
    for t in range(7):
        problem.step(optimizer, params, t)
    return problem.snapshot(optimizer, params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=["f32", "f64", "bf16"])
def test_foreach_is_loop_bit_for_bit(case: OptimizerCase, config: Config, dtype: torch.dtype) -> None:
    problem.assert_same(run(case, config, "foreach", dtype), run(case, config, "loop", dtype))


def test_auto_is_an_eager_path(case: OptimizerCase, config: Config) -> None:
    problem.assert_same(run(case, config, "auto", torch.float32), run(case, config, "loop", torch.float32))


@pytest.mark.parametrize("budget", [1, 10**9])
def test_chunks_change_nothing(
    case: OptimizerCase, config: Config, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = run(case, config, "foreach", torch.float32)
    monkeypatch.setattr(_paths, "CHUNK_ON_CPU", budget)
    problem.assert_same(run(case, config, "foreach", torch.float32), want)


def test_float32_is_close_to_float64(case: OptimizerCase, config: Config, impl: str) -> None:
    got = {name: x.double() for name, x in run(case, config, impl, torch.float32).items()}
    want = {name: x.double() for name, x in run(case, config, impl, torch.float64).items()}
    problem.assert_same(got, want, rtol=1e-4, atol=1e-5)


def compilations() -> int:
    return counters["stats"]["unique_graphs"]


def test_compiled_is_loop_and_never_recompiles(case: OptimizerCase, compiled_config: Config) -> None:
    results: list[dict[str, Any]] = []
    for impl in ("loop", "compiled"):
        params = {
            name: p for name, p in problem.parameters(torch.float32).items() if name in ("conv", "bias", "linear")
        }
        optimizer = problem.build(case, compiled_config, params, impl)
        scheduler = ExponentialLR(optimizer, 0.9)
        before = []
        for t in range(7):  # "linear" starts at t = 3, "bias" at t = 1
            before.append(compilations())
            problem.step(optimizer, params, t)
            scheduler.step()
        assert not optimizer._compiler._numbers, "numbers of past steps pile up"
        if impl == "compiled":
            assert before[1] > 0, "nothing was compiled"
            assert compilations() == before[2], "compiled again after the second step"
        results.append(problem.snapshot(optimizer, params))
    problem.assert_same(results[1], results[0], rtol=2e-5, atol=1e-6)


def test_without_a_compiler_one_warning_and_the_same_result(
    case: OptimizerCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = case.configs[case.compiles[0]]
    want = run(case, config, "loop", torch.float32, ("conv", "bias"))
    compiled.cache_clear()
    patch = {"cpp.cxx": ("/nonexistent/c++",), "force_disable_caches": True}
    with inductor_config.patch(patch), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = run(case, config, "compiled", torch.float32, ("conv", "bias"))
    compiled.cache_clear()
    ours = [warning for warning in caught if "impl='compiled'" in str(warning.message)]
    assert [warning.category for warning in ours] == [RuntimeWarning]
    problem.assert_same(got, want)
