"""Turns CASES into test parameters: a test that asks for ``case``, ``config``, ``impl`` runs for all of them."""

import importlib
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.optimizers.rows import CASES

with warnings.catch_warnings():
    # Importing the compiler touches deprecated parts of torch; that is torch's business and not a failure of a test.
    warnings.simplefilter("ignore")
    importlib.import_module("torch._inductor.compile_fx")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.fixturenames
    test = metafunc.function.__name__.removeprefix("test_")
    if "refused" in names:
        rows = [(case, kwargs, text) for case in CASES for kwargs, text in case.errors]
        ids = [f"{case.name}-{'-'.join(kwargs)}-{i}" for i, (case, kwargs, _) in enumerate(rows)]
        metafunc.parametrize(("case", "refused", "message"), rows, ids=ids)
        return
    if "case" not in names:
        return
    expanded = []
    for case in CASES:
        marks = [pytest.mark.skip(reason=case.skip[test])] if test in case.skip else []
        configs = case.configs.items() if "config" in names else [("", None)]
        if "compiled_config" in names:
            configs = [(key, case.configs[key]) for key in case.compiles]
        impls = [impl for impl in ("loop", "foreach") if impl in case.cls.impls] if "impl" in names else [""]
        for key, config in configs:
            for impl in impls:
                values = [case]
                values += [config] if {"config", "compiled_config"} & set(names) else []
                values += [impl] if "impl" in names else []
                label = "-".join(part for part in (case.name, key, impl) if part)
                expanded.append(pytest.param(*values, id=label, marks=marks))
    arguments = [name for name in ("case", "config", "compiled_config", "impl") if name in names]
    metafunc.parametrize(arguments, expanded)


@pytest.fixture(autouse=True)
def curved(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give gradients a graph before each step of a case that differentiates them. Their values stay what they are."""
    case = request.getfixturevalue("case") if "case" in request.fixturenames else None
    curvature = getattr(case, "curvature", None)
    if curvature is None:
        yield
        return

    def attach(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p.grad is not None and p.grad.layout is torch.strided:
                with torch.enable_grad():
                    p.grad = p.grad.detach() + torch.tensor(curvature(p.shape), dtype=p.dtype, device=p.device) * (
                        p - p.detach()
                    )

    handle = register_optimizer_step_pre_hook(attach)
    yield
    handle.remove()
