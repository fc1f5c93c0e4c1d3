"""The training example under torchrun: two processes do what one does on the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from optimizers import AdaHessian
from tests.examples.kit import HERE, assert_same, logs, train
from tests.examples.two_processes import RUNS, work
from tests.optimizers.distributed.ranks import run_on
from train import main
from training import checkpoint, runs
from training.distributed import Place, check
from training.run import check_updates
from training.settings import Settings, UsageError

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    run_on(2, work, str(folder))
    return folder


def whole(state: Any) -> Any:
    return checkpoint.scattered(state, None)


def weights(folder: Path) -> dict[str, Tensor]:
    """Return the parameters, without the running statistics, which depend on how a batch is split."""
    found = whole(checkpoint.read(folder)["model"])
    return {name: x for name, x in found.items() if "running" not in name and "num_batches" not in name}


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one_with_two_parts_per_batch(name: str, results: Path, tmp_path: Path) -> None:
    """Each process normalizes its half of a batch by itself; ``accumulate=2`` does the same in one process."""
    alone = train(replace(RUNS[name], fsdp=False, accumulate=2), tmp_path)
    expected = dict(alone.model.named_parameters())
    for key, value in weights(results / name).items():
        torch.testing.assert_close(value, expected[key].detach(), rtol=2e-4, atol=2e-5, msg=f"{name}: {key}")
    start = runs.start(RUNS["ddp"], tmp_path / "start", HERE).model
    moved = [(p - start.get_parameter(key)).abs().max() for key, p in expected.items()]
    assert min(moved) > 1e-4 and max(moved) > 1e-2  # more than the tolerance
    epochs = checkpoint.read(results / name)["history"]["epochs"]
    for row, other in zip(epochs, alone.history.epochs, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
    layers = checkpoint.read(results / name)["history"]["layers"]
    assert [row["layer"] for row in layers] == [row["layer"] for row in alone.history.layers]
    for row, other in zip(layers, alone.history.layers, strict=True):
        assert row["angle"] == pytest.approx(other["angle"], rel=2e-2), row


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_an_interrupted_run_of_two_processes_goes_on_bit_for_bit(name: str, results: Path) -> None:
    stored = [checkpoint.read(results / folder) for folder in (name, f"{name}-resumed")]
    for part in ("model", "optimizer"):
        a, b = (whole(state[part]) for state in stored)
        assert_same(*((a, b) if part == "model" else (a["state"], b["state"])))
    assert logs(results / name) == logs(results / f"{name}-resumed")


def test_a_sharded_checkpoint_holds_whole_tensors(results: Path) -> None:
    state = checkpoint.read(results / "fsdp")
    assert any(isinstance(x, dict) and x["sharded"] == [0] for x in state["model"].values())
    first = next(iter(whole(state["optimizer"])["state"].values()))
    assert first["exp_avg"].shape == (16, 1, 3, 3)


def test_torchrun(tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--limit", "64", "--epochs", "1", "--batch-size", "32", "--no-curves", "--fsdp"]
    done = subprocess.run(
        [*launcher, str(ROOT / "examples/train.py"), *options],
        **{"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}},
        **{"capture_output": True, "text": True, "timeout": 300, "check": False},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1 and done.stdout.count("Results") == 1  # only the first process prints
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-resnet20-adamsrt"]


def test_a_batch_must_divide_into_all_parts() -> None:
    with pytest.raises(UsageError, match="must be a multiple of 6: 2 processes times --accumulate 3"):
        check(Settings(accumulate=3), Place(torch.device("cpu"), 0, 2))


def test_graphs_of_gradients_are_not_shared() -> None:
    with pytest.raises(UsageError, match="adahessian needs the graph of the gradients"):
        check_updates(Settings(optimizer="adahessian"), Place(torch.device("cpu"), 0, 2), AdaHessian([torch.zeros(1)]))


def test_errors_are_printed_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, times in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(["--resume", "nowhere", "--no-curves"]) == 2
        assert capsys.readouterr().err.count("train.py: error: ") == times
