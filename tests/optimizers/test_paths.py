"""One rule, three paths: foreach equals loop bit for bit, compiled equals loop to rounding and never recompiles."""

import warnings
from collections.abc import Collection
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor import config as inductor_config
from torch.nn import Parameter
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
    rtol = case.tol.get("paths", (0.0, ""))[0] if dtype == torch.float32 else 0.0
    problem.assert_same(
        run(case, config, "foreach", dtype), run(case, config, "loop", dtype), rtol=rtol, atol=rtol / 100
    )


def test_auto_is_an_eager_path(case: OptimizerCase, config: Config) -> None:
    problem.assert_same(run(case, config, "auto", torch.float32), run(case, config, "loop", torch.float32))


@pytest.mark.parametrize("budget", [1, 10**9])
def test_chunks_change_nothing(
    case: OptimizerCase, config: Config, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = run(case, config, "foreach", torch.float32)
    monkeypatch.setattr(_paths, "CHUNK_ON_CPU", budget)
    rtol = case.tol.get("paths", (0.0, ""))[0]
    problem.assert_same(run(case, config, "foreach", torch.float32), want, rtol=rtol, atol=rtol / 100)


def test_float32_is_close_to_float64(case: OptimizerCase, config: Config, impl: str) -> None:
    got = {name: x.double() for name, x in run(case, config, impl, torch.float32).items()}
    want = {name: x.double() for name, x in run(case, config, impl, torch.float64).items()}
    problem.assert_same(got, want, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_float32_rounded(case: OptimizerCase, config: Config) -> None:
    """One step from the same values: the arithmetic and the state of bfloat16 parameters are float32."""
    rtol = case.tol.get("bfloat16_is_float32_rounded", (1e-6, ""))[0]
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        params = {name: Parameter(p.detach().to(dtype)) for name, p in problem.parameters(torch.bfloat16).items()}
        optimizer = problem.build(case, config, params, "auto")
        for p in params.values():  # what a constructor does to the weights, it does in their precision
            p.data.copy_(p.data.bfloat16())
        for name, p in params.items():
            p.grad = torch.tensor(problem.gradient(name, 0)).bfloat16().to(dtype)
        optimizer.step()
        ends.append(problem.snapshot(optimizer, params))
    for name, want in ends[0].items():
        if "/" in name:
            torch.testing.assert_close(ends[1][name], want, rtol=rtol, atol=1e-7)
        else:
            torch.testing.assert_close(ends[1][name], want.bfloat16(), rtol=2**-7, atol=1e-6)


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
