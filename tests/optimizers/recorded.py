"""The recorded cases: where they are, how one is set up, and how a result is held against it.

The folder is the one that AUTOGROUP_GOLDEN names, else ``golden`` beside this file. Nothing here knows what is in it
beyond its format: which problems, shapes, step counts and options there are is read from its ``index.json``.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

import optimizers

FOLDER = Path(os.environ.get("AUTOGROUP_GOLDEN") or Path(__file__).parent / "golden")
INDEX: dict[str, Any] = json.loads((FOLDER / "index.json").read_text())
Case = dict[str, Any]


def cases(kind: str, *algorithms: str) -> list[Any]:
    """Return the cases of a kind as test parameters: all, or those of some algorithms."""
    found = [case for case in INDEX["cases"] if case["kind"] == kind]
    return [pytest.param(case, id=case["id"]) for case in found if not algorithms or case["algorithm"] in algorithms]


def arrays(case: Case) -> Any:
    """Return what was recorded."""
    return np.load(FOLDER / case["file"])


def inputs(case: Case) -> tuple[dict[str, Any], Any, list[Parameter]]:
    """Return the problem of a case, its arrays, and its parameters as they are before the first step."""
    problem = INDEX["problems"][case["problem"]]
    given: Any = np.load(FOLDER / problem["file"])
    return problem, given, [Parameter(torch.tensor(given[f"param_{i}"])) for i in range(len(problem["shapes"]))]


def with_tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as Python takes them: JSON has lists for tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def groups(case: Case, params: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Return the param groups of a case."""
    stated = case.get("param_groups") or [{"params": list(range(len(params)))}]
    return [{**with_tuples(group), "params": [params[i] for i in group["params"]]} for group in stated]


def resolve(case: Case) -> tuple[Any, dict[str, Any]]:
    """Return the class of an algorithm and its options.

    AMSGrad is no class here but an option of the relatives of Adam. With clipping off, this one is Adam.
    """
    options = with_tuples(case["kwargs"])
    if case["algorithm"] != "AMSGrad":
        return getattr(optimizers, case["algorithm"]), options
    cls = optimizers.AdamW_AGC if options.pop("weight_decouple", False) else optimizers.Adam_AGC
    return cls, {**options, "amsgrad": True, "clipping": None}


def build(case: Case, params: Sequence[Parameter], impl: str) -> Any:
    """Build the optimizer of a case that has no other one inside."""
    cls, options = resolve(case)
    return cls(groups(case, params), **options, impl=impl)


def base(case: Case, foreach: bool) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the class and the options of the optimizer inside a wrapper, which torch runs in one of two ways."""
    return getattr(torch.optim, case["base"]["algorithm"]), {**with_tuples(case["base"]["kwargs"]), "foreach": foreach}


def set_gradients(case: Case, given: Any, params: Sequence[Parameter], optimizer: Any, t: int) -> None:
    """Install the gradients of step ``t``, and its learning rate if it has one."""
    missing, rates = case.get("none_grads") or {}, case.get("lr_per_step")
    for i, p in enumerate(params):
        p.grad = None if t in missing.get(str(i), []) else torch.tensor(given[f"grad_{i}"][t])
    for group in optimizer.param_groups if rates else []:
        group["lr"] = rates[t]


def difference(case: Case, got: Any, want: Any, where: str) -> str:
    """Return a sentence about the entry that is farthest outside the tolerance of the case, or "" if all are inside."""
    got = got.detach().numpy() if isinstance(got, Tensor) else np.asarray(got)
    if got.shape != np.shape(want):
        return f"{case['id']}, {where}: shape {got.shape} instead of {np.shape(want)}"
    tolerance = case["tolerance"]
    excess = np.abs(got - want) - (tolerance["atol"] + tolerance["rtol"] * np.abs(want))
    if bool((excess <= 0).all()):  # not so if anything is NaN
        return ""
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    return f"{case['id']}, {where}: {got[worst]!r} instead of {want[worst]!r} at {tuple(map(int, worst))}"


def stray(case: Case, params: Sequence[Parameter], want: Any, t: int) -> str:
    """Return a sentence about the first parameter that is not where it should be after step ``t``, or ""."""
    found = (difference(case, p, want[f"p{i}"][t], f"parameter {i} after step {t}") for i, p in enumerate(params))
    return next(filter(None, found), "")
