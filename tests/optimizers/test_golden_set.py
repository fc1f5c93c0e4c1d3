"""Another set of recorded cases runs through the same tests: AUTOGROUP_GOLDEN names its folder.

The set here has other problems, shapes, step counts and options than the one in the repository; its numbers are
computed below. One of them is wrong in a second copy, which must fail.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
FILES = sorted(str(path) for path in HERE.glob("test_golden*.py") if path.name != Path(__file__).name)
SHAPES, STEPS = ((3, 2), (2, 2, 1, 3), (5,)), 4
Arrays = list[np.ndarray]


def amsgrad(params: Arrays, grads: Arrays, kwargs: dict[str, Any]) -> Iterator[Arrays]:
    (beta1, beta2), lr, eps, decay = kwargs["betas"], kwargs["lr"], kwargs["eps"], kwargs["weight_decay"]
    params = list(params)
    m, v, top = ([np.zeros_like(p) for p in params] for _ in range(3))
    for t in range(STEPS):
        for i, grad in enumerate(grads):
            g = grad[t] + decay * params[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            top[i] = np.maximum(top[i], v[i])
            den = np.sqrt(top[i] / (1 - beta2 ** (t + 1))) + eps
            params[i] = params[i] - lr / (1 - beta1 ** (t + 1)) * m[i] / den
        yield list(params)


def lookahead(params: Arrays, grads: Arrays, kwargs: dict[str, Any]) -> Iterator[Arrays]:
    slow = list(params)
    for t in range(STEPS):
        params = [p - 0.3 * grad[t] for p, grad in zip(params, grads, strict=True)]
        if (t + 1) % kwargs["k"] == 0:
            slow = [s + kwargs["alpha"] * (p - s) for p, s in zip(params, slow, strict=True)]
            params = list(slow)
        yield params


def write_set(folder: Path, error: float = 0.0) -> None:
    """Write a small set; ``error`` is added to one number of it."""
    random = np.random.default_rng(7)
    params: Arrays = [random.normal(size=shape) for shape in SHAPES]
    grads: Arrays = [random.normal(size=(STEPS, *shape)) for shape in SHAPES]
    given = {f"param_{i}": x for i, x in enumerate(params)} | {f"grad_{i}": x for i, x in enumerate(grads)}
    np.savez(folder / "somewhere.npz", **given)
    shared = {"tolerance": {"rtol": 1e-9, "atol": 1e-11}, "param_groups": None, "problem": "other", "steps": STEPS}
    cases: list[dict[str, Any]] = [
        {"kind": "fixed_grads", "algorithm": "AMSGrad", "kwargs": {"lr": 0.03, "betas": [0.7, 0.6], "eps": 1e-6}},
        {"kind": "fixed_grads", "algorithm": "Lookahead", "kwargs": {"k": 3, "alpha": 0.25}},
        {"kind": "schedule", "algorithm": "UntunedLinearWarmup", "kwargs": {"beta2": 0.8}},
        {"kind": "function", "algorithm": "centralize_gradient", "kwargs": {"gc_conv_only": False}},
    ]
    cases[0]["kwargs"] |= {"weight_decay": 0.1, "weight_decouple": False}
    cases[1]["base"] = {"algorithm": "SGD", "kwargs": {"lr": 0.3}}
    cases[3] |= {"inputs": ["grad"], "outputs": ["grad"]}
    paths = [list(rule(params, grads, case["kwargs"])) for rule, case in zip((amsgrad, lookahead), cases, strict=False)]
    found = [{f"p{i}": np.array([step[i] for step in path]) for i in range(len(SHAPES))} for path in paths]
    found[0]["p1"][-1, 1, 0, 0, 2] += error
    found += [{"values": np.minimum(1, 0.1 * np.arange(1, 13))}]
    found += [{"in_grad": params[0], "out_grad": params[0] - params[0].mean(1, keepdims=True)}]
    for i, (case, values) in enumerate(zip(cases, found, strict=True)):
        case |= {**shared, "id": f"number-{i}", "file": f"recorded_{i}.npz"}
        np.savez(folder / case["file"], **values)
    problem = {"file": "somewhere.npz", "kind": "fixed_grads", "shapes": SHAPES, "steps": STEPS}
    index = {"format": 1, "set": "other", "dtype": "float64", "problems": {"other": problem}, "cases": cases}
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.slow
@pytest.mark.parametrize("error", [0.0, 1e-8])
def test_another_set(tmp_path: Path, error: float) -> None:
    write_set(tmp_path, error)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "not slow",
        "-k",
        "number or every",
        *FILES,
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "AUTOGROUP_GOLDEN": str(tmp_path)},
        cwd=HERE.parents[1],
        text=True,
        capture_output=True,
    )
    failed = {line.split()[1].split("::")[1] for line in done.stdout.splitlines() if line.startswith("FAILED")}
    wrong = {f"test_trajectory[number-0-{path}]" for path in ("loop", "foreach")} | {"test_traced[number-0-compiled]"}
    assert failed == (wrong if error else set()), done.stdout
    assert done.returncode == bool(error), done.stdout
    assert not error or "number-0, parameter 1 after step 3: " in done.stdout
