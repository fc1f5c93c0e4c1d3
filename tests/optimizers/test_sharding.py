"""Sharded parameters (DTensor) give what the whole tensor gives, wherever the shards are cut."""

import os
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn import Parameter

from tests.optimizers.cases import OptimizerCase
from tests.optimizers.rows import CASES

RANKS = 2
WEIGHTS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((5, 4, 3), {"channel_dims": (0,)}),  # uneven shards
    ((1, 4), {"channel_dims": (0,)}),  # an empty shard
    ((5, 4), {"channel_dims": ()}),
    ((5, 4), {"channel_dims": (1,)}),
    ((6, 4, 3), {"channel_dims": (0,), "channel_groups": 3}),  # a block on two ranks
    ((6, 4, 3), {"channel_dims": (0,), "channel_groups": 2}),
    ((6, 4), {"channel_dims": (1,), "channel_groups": 2}),
    ((6,), {"channel_dims": (0,), "channel_groups": 3}),
    ((5,), {}),
)


def compare(case: OptimizerCase, impl: str, mesh: Any, placement: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    config = case.configs["kinds"] if "kinds" in case.configs else next(iter(case.configs.values()))
    usable = [(s, k) for s, k in WEIGHTS if not isinstance(placement, Shard) or placement.dim < len(s)]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape, _ in usable]
    whole = [Parameter(x.clone()) for x in start]
    parts = [Parameter(distribute_tensor(x, mesh, [placement])) for x in start]
    a, b = (
        case.cls([{"params": [p], **k} for p, (_, k) in zip(ps, usable, strict=True)], **config.kwargs, impl=impl)
        for ps in (whole, parts)
    )
    for _ in range(2):
        for p, q in zip(whole, parts, strict=True):
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            q.grad = distribute_tensor(p.grad, mesh, [placement])
        a.step()
        b.step()
    for p, q, (shape, keys) in zip(whole, parts, usable, strict=True):
        where = f"{case.name} {impl} {placement} {shape} {keys}"
        torch.testing.assert_close(q.full_tensor(), p.data, rtol=1e-10, atol=1e-12, msg=where)  # type: ignore[attr-defined]
        for name in sorted(a.state[p].keys() - {"step"}):  # all ranks in the same order
            got, want = b.state[q][name].full_tensor(), a.state[p][name]
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12, msg=f"{where} {name}")


def work(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(RANKS))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        mesh = init_device_mesh("cpu", (RANKS,))
        for case in CASES:
            for impl in ("loop", "foreach"):
                if impl in case.cls.impls and "sharding" not in case.skip:
                    for placement in (Shard(0), Shard(1), Replicate()):
                        compare(case, impl, mesh, placement)
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
