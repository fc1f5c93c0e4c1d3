"""Reference trajectories recorded from the authors' code. AUTOGROUP_GOLDEN replaces the folder.

Every trajectory runs on every path that its optimizer has. Half of the seconds that compiling takes are spent by the
C++ compiler, and a whole set has some 350 graphs: a quarter of an hour. So on the compiled path every trajectory is
traced by Dynamo into one graph per layout, with symbolic sizes, and these graphs run as they are; that covers all that
is ours (layouts, numbers as tensors, flags, phases). Inductor's code runs for the first trajectory of each rule, and
for all of them with AUTOGROUP_INDUCTOR=1.
"""

import os
from functools import cache
from typing import Any

import pytest
import torch

from optimizers import _compile
from tests.optimizers.recorded import INDEX, arrays, build, difference, inputs, resolve, set_gradients, stray

TRAJECTORIES = [case for case in INDEX["cases"] if case["kind"] == "fixed_grads" and "base" not in case]
FIRST = {resolve(case)[0].rule: case["id"] for case in reversed(TRAJECTORIES)}


def on(*paths: str) -> list[Any]:
    return [
        pytest.param(case, path, id=f"{case['id']}-{path}")
        for case in TRAJECTORIES
        for path in paths
        if path in resolve(case)[0].impls
    ]


def of_inductor() -> list[Any]:
    return [x for x in on("compiled") if os.environ.get("AUTOGROUP_INDUCTOR") or x.values[0]["id"] in FIRST.values()]


def run(case: dict[str, Any], path: str) -> str:
    """Run a trajectory. Return a sentence about the first difference, or ""."""
    want = arrays(case)
    _, given, params = inputs(case)
    optimizer = build(case, params, path)
    if case.get("check_init"):
        found = [difference(case, p, want[f"init{i}"], f"parameter {i} at the start") for i, p in enumerate(params)]
        if any(found):
            return next(filter(None, found))
    for t in range(case["steps"]):
        set_gradients(case, given, params, optimizer, t)
        optimizer.step()
        if found := stray(case, params, want, t):
            return found
    return ""


@pytest.mark.parametrize(("golden", "path"), on("loop", "foreach"))
def test_trajectory(golden: dict[str, Any], path: str) -> None:
    assert not run(golden, path)


traced = cache(_compile.compiled.__wrapped__)


@pytest.mark.parametrize(("golden", "path"), on("compiled"))
def test_traced(golden: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, layouts = torch.compile, traced.cache_info().currsize

    def trace(function: Any, *, options: object, **kwargs: Any) -> Any:
        return real(function, backend="eager", **kwargs)

    monkeypatch.setattr(torch, "compile", trace)
    monkeypatch.setattr(_compile, "compiled", traced)  # graphs of this backend, kept from test to test
    assert not run(golden, path)
    assert traced.cache_info().hits
    assert layouts or traced.cache_info().currsize, "nothing was traced"


@pytest.mark.slow
@pytest.mark.parametrize(("golden", "path"), of_inductor())
def test_compiled(golden: dict[str, Any], path: str) -> None:
    assert not run(golden, path)
