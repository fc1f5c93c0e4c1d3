"""Small runs of the training example, inside this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from training import runs
from training.distributed import Place
from training.history import EPOCHS, LAYERS
from training.run import Run
from training.settings import Settings

HERE = Place(torch.device("cpu"))
SMALL: dict[str, Any] = {"limit": 64, "batch_size": 32, "epochs": 2}


def quiet() -> Console:
    return Console(quiet=True)


def train(settings: Settings, folder: Path, stop: Callable[[Run], bool] | None = None, save_every: int = 0) -> Run:
    """Start a run in a new folder, and train it to its end or to where ``stop`` says."""
    run = runs.start(settings, folder, HERE)
    runs.train(run, folder, quiet(), save_every, stop)
    return run


def resume(folder: Path, **changes: Any) -> Run:
    run = runs.resume(folder, HERE, **changes)
    assert runs.train(run, folder, quiet())
    return run


def logs(folder: Path) -> tuple[list[str], str]:
    """Return the rows of log.csv without the time, and the whole of effective_lr.csv."""
    lines = [line.split(",") for line in (folder / EPOCHS).read_text().splitlines()]
    time = lines[0].index("seconds_per_step")
    return [",".join(line[:time] + line[time + 1 :]) for line in lines], (folder / LAYERS).read_text()


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Compare nested state bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key, value in a.items():
            assert_same(value, b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}.{i}")
    else:
        assert a == b, where
