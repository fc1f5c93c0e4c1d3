"""What each of the two processes of ``test_train_distributed`` does: runs of the training example, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from tests.examples.kit import SMALL, quiet
from training import runs
from training.distributed import Place
from training.run import Run
from training.settings import Settings

BASE = Settings(**SMALL, options={"lr": 1e-2, "weight_decay": 1e-3})
RUNS = {
    "ddp": BASE,
    "fsdp": replace(BASE, fsdp=True),
    "ddp-sam": replace(BASE, optimizer="torch.sgd", wrap=("sam",)),
}


def work(mesh: DeviceMesh, out: str) -> None:
    here = Place(torch.device(mesh.device_type), dist.get_rank(), dist.get_world_size())

    def run(settings: Settings, folder: Path, stop: Callable[[Run], bool] | None = None) -> None:
        runs.train(runs.start(settings, folder, here), folder, quiet(), stop=stop)

    for name, settings in RUNS.items():
        run(settings, Path(out) / name)
    for name in ("ddp", "fsdp"):
        folder = Path(out) / f"{name}-resumed"
        run(RUNS[name], folder, lambda r: r.epoch == 0 and r.step == 1)
        assert runs.train(runs.resume(folder, here), folder, quiet())
