"""Wrappers around optimizers of sharded parameters (DTensor) do what they do to whole ones."""

import os
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn import Parameter

from tests.optimizers.wrapped import CASES, INNER, needs_pc

RANKS = 2
SHAPES = ((5, 4, 3), (6, 2), (5,))  # uneven shards among them


def run(name: str, start: list[Tensor], place: Any) -> list[Tensor]:
    params = [Parameter(place(x.clone())) for x in start]
    row = CASES[name]
    optimizer = row.build(INNER["SGD"](params), **row.options)
    for t in range(3):
        generator = torch.Generator().manual_seed(t)
        slopes = [[place(torch.randn(x.shape, generator=generator, dtype=x.dtype)) for x in start] for _ in range(2)]

        def loss(k: int, slopes: list[list[Tensor]] = slopes) -> Tensor:
            terms = [((p * g).sum() + p.square().sum()) for p, g in zip(params, slopes[k], strict=True)]
            whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in terms]
            return torch.stack(whole).sum()

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = loss(0)
            total.backward()
            return total

        surgeon = needs_pc(optimizer)
        closure() if surgeon is None else surgeon.pc_backward([loss(0), loss(1)])
        optimizer.step(closure) if optimizer.needs_closure else optimizer.step()
    return [p.detach().full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in params]


def work(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(RANKS))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        mesh = init_device_mesh("cpu", (RANKS,))
        generator = torch.Generator().manual_seed(9)
        start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
        for name in CASES:
            want = run(name, start, lambda x: x)
            for placement in (Shard(0), Replicate()):
                got = run(name, start, lambda x, placement=placement: distribute_tensor(x, mesh, [placement]))
                for a, b, shape in zip(got, want, SHAPES, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=f"{name} {placement} {shape}")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.spawn(work, (port,), nprocs=RANKS, join=False)
    assert context is not None
    while not context.join(timeout=120):  # raises what a rank raised
        pass
    assert [process.exitcode for process in context.processes if process] == [0] * RANKS
