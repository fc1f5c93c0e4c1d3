"""A checkpoint written by four ranks resumes on two, and on one that knows nothing of ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import DeviceMesh

from tests.optimizers.distributed.ranks import run_on
from tests.optimizers.distributed.training import Training, builders

BUILDERS = {**builders(wrappers=False), **builders(wrappers=True)}
HALF, END = 3, 6


def saved(training: Training) -> dict[str, Any]:
    model, optimizer = get_state_dict(training.net, training.optimizer)
    return {"model": model, "optimizer": optimizer}


def write(mesh: DeviceMesh, folder: Path) -> None:
    states = {}
    for name, build in BUILDERS.items():
        training = Training(build, "fsdp", mesh)
        training.steps(0, HALF, mesh.size())
        states[name] = saved(training)
    dcp.save(states, checkpoint_id=folder)


def resume(mesh: DeviceMesh, folder: Path, writers: int) -> None:
    kind = "fsdp" if mesh.size() > 1 else "alone"
    resumed = {name: Training(build, kind, mesh, seed=1) for name, build in BUILDERS.items()}
    states = {name: saved(training) for name, training in resumed.items()}
    dcp.load(states, checkpoint_id=folder)
    for name, training in resumed.items():
        state = states[name]
        set_state_dict(
            training.net, training.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )
        training.steps(HALF, END, mesh.size())
        uninterrupted = Training(BUILDERS[name])
        uninterrupted.steps(0, HALF, writers)
        uninterrupted.steps(HALF, END, mesh.size())
        training.assert_equal(uninterrupted, name)


@pytest.mark.slow
def test_four_ranks_to_two_and_one(tmp_path: Path) -> None:
    run_on(4, write, tmp_path)
    for ranks in (2, 1):
        run_on(ranks, resume, tmp_path, 4)
