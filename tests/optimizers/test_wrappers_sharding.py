"""Wrappers around optimizers of sharded parameters (DTensor) do what they do to whole ones."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.nn import Parameter

from tests.optimizers.distributed.ranks import place, run_on
from tests.optimizers.wrapped import CASES, INNER, needs_pc

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


def work(mesh: DeviceMesh) -> None:
    generator = torch.Generator().manual_seed(9)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    for name in CASES:
        want = run(name, start, lambda x: x)
        for placement in (Shard(0), Replicate()):
            got = run(name, start, lambda x, placement=placement: place(x, mesh, (placement,)))
            for a, b, shape in zip(got, want, SHAPES, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=f"{name} {placement} {shape}")


@pytest.mark.slow
def test_two_ranks_equal_one_process() -> None:
    run_on(2, work)
