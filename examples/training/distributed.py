"""Where a run takes place: one process, or several started by torchrun, on GPUs where there are some."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.settings import Settings, UsageError


@dataclass(frozen=True)
class Place:
    """This process: its device, its rank, and how many there are."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Add up numbers over all processes, in float64."""
        sums = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.ranks > 1:
            dist.all_reduce(sums)
        return sums.tolist()

    def agree(self, value: Any) -> Any:
        """Return what the first process has."""
        box = [value]
        if self.ranks > 1:
            dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return what each process has, in their order."""
        found = [value] * self.ranks
        if self.ranks > 1:
            dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait for all processes."""
        if self.ranks > 1:
            dist.barrier()


@contextmanager
def place() -> Generator[Place]:
    """Join the processes that torchrun has started, if it has."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        yield Place(torch.device("cuda" if cuda else "cpu"))
        return
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Place(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def check(settings: Settings, where: Place) -> None:
    """Refuse settings that do not fit the place.

    Raises:
        UsageError: mixed precision without a GPU, sharding in one process, or a batch that cannot be divided.
    """
    if settings.amp != "off" and where.device.type != "cuda":
        raise UsageError(f"--amp {settings.amp} needs a CUDA device, and torch finds none here: leave --amp out")
    if settings.fsdp and where.ranks == 1:
        raise UsageError(
            "--fsdp shards over several processes; start them with "
            "torchrun --standalone --nproc-per-node 2 examples/train.py --fsdp"
        )
    parts = where.ranks * settings.accumulate
    if settings.batch_size % parts:
        raise UsageError(
            f"--batch-size {settings.batch_size} must be a multiple of {parts}: {where.ranks} processes times "
            f"--accumulate {settings.accumulate}"
        )


def shard(model: nn.Module, where: Place) -> None:
    """Shard the parameters of a model over all processes (FSDP2): its blocks each, and the rest."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(where.device.type, (where.ranks,))
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def replicate(model: nn.Module, where: Place) -> nn.Module:
    """Return the model in DDP. Running statistics stay apart until `average_statistics`."""
    from torch.nn.parallel import DistributedDataParallel

    devices = [where.device] if where.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, forward_sync_buffers=False)


def average_statistics(model: nn.Module, where: Place) -> None:
    """Replace the running statistics of the batch norms by their mean over all processes."""
    if where.ranks > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= where.ranks


def whole(x: Tensor) -> Tensor:
    """Return the whole of a sharded tensor; every process must ask."""
    sharded: Any = x
    return sharded.full_tensor() if hasattr(x, "full_tensor") else x
