"""Reference trajectories recorded from the authors' code. AUTOGROUP_GOLDEN replaces the folder."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import optimizers

FOLDER = Path(os.environ.get("AUTOGROUP_GOLDEN") or Path(__file__).parent / "golden")
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())


def implemented(case: dict[str, Any]) -> bool:
    return case["kind"] == "fixed_grads" and "base" not in case and case["algorithm"] in optimizers.__all__


def runs() -> list[Any]:
    found: list[Any] = []
    for case in INDEX["cases"]:
        if case["kind"] in ("schedule", "function", "pcgrad", "pcgrad_outcomes", "epoch") or "base" in case:
            continue  # test_golden_kinds.py, test_golden_epoch.py
        if not implemented(case):
            skip = pytest.mark.skip(reason="algorithm not implemented yet")
            found.append(pytest.param(case, "loop", id=case["id"], marks=skip))
            continue
        impls = getattr(optimizers, case["algorithm"]).impls
        for impl in impls:
            if impl != "compiled" or case["id"] == first_implemented():
                found.append(pytest.param(case, impl, id=f"{case['id']}-{impl}"))
    return found


def first_implemented() -> str | None:
    return next((case["id"] for case in INDEX["cases"] if implemented(case)), None)


def with_tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


@pytest.mark.parametrize(("golden", "path"), runs())
def test_trajectory(golden: dict[str, Any], path: str) -> None:
    problem: dict[str, Any] = INDEX["problems"][golden["problem"]]
    inputs: Any = np.load(FOLDER / problem["file"])
    want: Any = np.load(FOLDER / golden["file"])
    params = [Parameter(torch.tensor(inputs[f"param_{i}"])) for i in range(len(problem["shapes"]))]
    groups: Any = golden.get("param_groups") or [{"params": list(range(len(params)))}]
    groups = [{**with_tuples(group), "params": [params[i] for i in group["params"]]} for group in groups]
    optimizer = getattr(optimizers, golden["algorithm"])(groups, **with_tuples(golden["kwargs"]), impl=path)
    none_grads: Any = golden.get("none_grads") or {}
    lrs: Any = golden.get("lr_per_step")
    tolerance = golden["tolerance"]
    for i, p in enumerate(params) if golden.get("check_init") else []:
        np.testing.assert_allclose(p.detach().numpy(), want[f"init{i}"], **tolerance, err_msg=f"parameter {i}")
    for t in range(golden["steps"]):
        for i, p in enumerate(params):
            p.grad = None if t in none_grads.get(str(i), []) else torch.tensor(inputs[f"grad_{i}"][t])
        for group in optimizer.param_groups if lrs else []:
            group["lr"] = lrs[t]
        optimizer.step()
        for i, p in enumerate(params):
            np.testing.assert_allclose(
                p.detach().numpy(), want[f"p{i}"][t], **tolerance, err_msg=f"parameter {i} after step {t}"
            )
