"""An interrupted run of the training example goes on bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.examples.files import write_cifar
from tests.examples.kit import HERE, SMALL, assert_same, logs, quiet, resume, train
from training import checkpoint, runs
from training.files import write
from training.history import EPOCHS
from training.run import Run
from training.settings import Settings, UsageError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS: dict[str, dict[str, Any]] = {
    "adamsrt": {"options": {"lr": 1e-2, "weight_decay": 1e-3}, "schedule": "knee", "warmup": 0.5},
    "adahessian": {"optimizer": "adahessian"},  # draws random numbers in every step
    "rmsgd": {"optimizer": "rmsgd", "options": {"momentum": 0.9}},  # acts at the end of an epoch
    "lookahead(sam(sgd))": {
        "optimizer": "torch.sgd",
        "options": {"momentum": 0.9, "lr": 0.1},
        "wrap": ("sam", "lookahead"),
    },
}


def check(settings: Settings, folder: Path, stops: tuple[int, ...]) -> None:
    """Compare a run that is interrupted after these numbers of steps, one after the other, with one that is not."""
    whole = train(settings, folder / "whole")
    seen: list[int] = []

    def stop(run: Run) -> bool:
        done = run.epoch * run.steps + run.step
        return done in stops and done not in seen and not seen.append(done)

    run = train(settings, folder / "parts", stop)
    while not run.finished:
        run = runs.resume(folder / "parts", HERE)
        runs.train(run, folder / "parts", quiet(), stop=stop)
    assert tuple(seen) == stops
    assert_same(run.model.state_dict(), whole.model.state_dict())
    assert_same(run.optimizer.state_dict()["state"], whole.optimizer.state_dict()["state"])
    for mine, other in zip(run.optimizer.param_groups, whole.optimizer.param_groups, strict=True):
        assert {key: mine[key] for key in other if key != "params"} == {k: x for k, x in other.items() if k != "params"}
    assert logs(folder / "parts") == logs(folder / "whole")


@pytest.mark.parametrize("name", CONFIGS)
def test_interrupted_in_the_middle_and_at_the_end_of_an_epoch(name: str, tmp_path: Path) -> None:
    check(Settings(**SMALL, **CONFIGS[name]), tmp_path, stops=(1, 2))  # two steps per epoch


@pytest.mark.zoo
def test_with_random_augmentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets", reason="torchvision is not installed")
    write_cifar(monkeypatch, tmp_path, datasets.CIFAR10, images=6)
    settings = Settings(dataset="cifar10", data=str(tmp_path), batch_size=10, epochs=1, optimizer="adamp")
    check(settings, tmp_path, stops=(2,))


def test_a_crash_goes_back_to_the_last_checkpoint(tmp_path: Path) -> None:
    settings = Settings(**SMALL)
    whole = train(settings, tmp_path / "whole")

    def crash(run: Run) -> bool:
        if run.epoch == 1 and run.step == 1:
            raise KeyError("power failure")
        return False

    with pytest.raises(KeyError, match="power failure"):
        train(settings, tmp_path / "crashed", crash, save_every=1)
    stored = checkpoint.read(tmp_path / "crashed")
    assert (stored["progress"]["epoch"], stored["progress"]["step"]) == (1, 1)
    assert_same(resume(tmp_path / "crashed").model.state_dict(), whole.model.state_dict())
    assert logs(tmp_path / "crashed") == logs(tmp_path / "whole")


def test_stopped_before_the_first_checkpoint_it_starts_anew(tmp_path: Path) -> None:
    runs.start(Settings(**SMALL), tmp_path / "a", HERE)
    whole = train(Settings(**SMALL), tmp_path / "b")
    assert_same(resume(tmp_path / "a").model.state_dict(), whole.model.state_dict())


def test_a_signal_writes_a_checkpoint(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "examples/train.py"),
        "--out",
        "run",
        "--limit",
        "64",
        "--epochs",
        "9999",
        "--no-curves",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / EPOCHS).exists():  # the first epoch ended
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume run" in printed
    stored = checkpoint.read(tmp_path / "run")
    assert stored["progress"]["epoch"] >= 1


def test_loading_images_may_change_but_nothing_else(tmp_path: Path) -> None:
    settings = Settings(**SMALL)
    train(settings, tmp_path / "a", lambda run: run.step == 1)
    assert runs.resume(tmp_path / "a", HERE, workers=1).step == 1
    write(tmp_path / "a" / runs.SETTINGS, b'{"seed": 1}')
    with pytest.raises(UsageError, match="belong to different runs"):
        runs.resume(tmp_path / "a", HERE)
    assert not settings.same_result(replace(settings, batch_size=16))


class Code:
    """Not plain data."""


DAMAGED: dict[str, tuple[Any, str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "with code": (lambda path: torch.save({"format": 1, "x": Code()}, path), "cannot be read"),
    "another version": (lambda path: torch.save({"format": 99}, path), "not a checkpoint of this version"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_checkpoints_are_refused(damage: str, tmp_path: Path) -> None:
    runs.start(Settings(**SMALL), tmp_path, HERE)
    path = tmp_path / checkpoint.FILE
    torch.save({"format": 1, "x": torch.zeros(10_000)}, path)
    change, message = DAMAGED[damage]
    change(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=message):
        runs.resume(tmp_path, HERE)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
