"""Sharded parameters (DTensor) give what the whole tensor gives, wherever the shards are cut."""

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Placement, Replicate, Shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn import Parameter

from optimizers import SGDMRT, AdaHessian
from optimizers._whole import global_norm
from tests.optimizers.cases import OptimizerCase
from tests.optimizers.distributed.ranks import assert_part, place, run_on
from tests.optimizers.rows import CASES

WEIGHTS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    # Few shapes, because DTensor plans every operation once per shape. 15 is uneven on 2 and on 4 ranks.
    ((15, 4, 3), {}),
    ((15, 4, 3), {"channel_dims": ()}),
    ((15, 4, 3), {"channel_dims": (0,)}),
    ((15, 4, 3), {"channel_dims": (1,)}),
    ((15, 4, 3), {"channel_dims": (0,), "channel_groups": 3}),  # blocks on two ranks
    ((15, 4, 3), {"channel_dims": (1,), "channel_groups": 2}),
    ((3, 2, 2, 2), {}),
    ((1, 4), {"channel_dims": (0,)}),  # empty shards
    ((1, 4), {}),
    ((6,), {"channel_dims": (0,), "channel_groups": 3}),
    ((6,), {}),
)
LINES: tuple[tuple[Placement, ...] | None, ...] = (None, (Shard(0),), (Shard(1),), (Replicate(),))
GRIDS: tuple[tuple[Placement, ...] | None, ...] = (
    None,
    (Replicate(), Shard(0)),
    (Shard(0), Shard(1)),
)  # HSDP; FSDP of Shard(1)


def put(x: Tensor, mesh: DeviceMesh, layout: tuple[Placement, ...] | None) -> Tensor:
    return x.clone() if layout is None else place(x, mesh, layout)


def compare(
    case: OptimizerCase,
    impl: str,
    mesh: DeviceMesh,
    layouts: Sequence[tuple[Placement, ...] | None],
    weights: Sequence[tuple[tuple[int, ...], dict[str, Any]]] = WEIGHTS,
) -> None:
    """Step one optimizer with weights in all layouts (``None``: not sharded), and one without ranks."""
    generator = torch.Generator().manual_seed(0)
    config = case.configs["kinds"] if "kinds" in case.configs else next(iter(case.configs.values()))
    spots = [
        (shape, keys, layout)
        for layout in layouts
        for shape, keys in weights
        if all(not isinstance(placement, Shard) or placement.dim < len(shape) for placement in layout or ())
    ]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape, _, _ in spots]
    whole = [Parameter(x.clone()) for x in start]
    parts = [Parameter(put(x, mesh, layout)) for x, (_, _, layout) in zip(start, spots, strict=True)]
    a, b = (
        case.cls(
            [{"params": [p], **keys} for p, (_, keys, _) in zip(ps, spots, strict=True)], **config.kwargs, impl=impl
        )
        for ps in (whole, parts)
    )
    for _ in range(2):
        for p, q, (shape, _, layout) in zip(whole, parts, spots, strict=True):
            g = torch.randn(shape, generator=generator, dtype=torch.float64)
            p.grad, q.grad = g, put(g, mesh, layout)
            if case.curvature is not None:
                bend = torch.tensor(case.curvature(shape), dtype=torch.float64)
                p.grad = g + bend * (p - p.detach())
                q.grad = q.grad + put(bend, mesh, layout) * (q - q.detach())
        for optimizer in (a, b):
            optimizer.step()
            getattr(optimizer, "epoch_step", lambda: None)()
    for p, q, (shape, keys, layout) in zip(whole, parts, spots, strict=True):
        where = f"{case.name} {impl} {layout} {shape} {keys}"
        assert_part(q.detach(), p.detach(), where)
        for name in a.state[p]:
            assert_part(b.state[q][name], a.state[p][name], f"{where} {name}")


def work(mesh: DeviceMesh) -> None:
    for case in CASES:
        for impl in ("loop", "foreach"):
            if impl in case.cls.impls:
                compare(case, impl, mesh, LINES)
        if mesh.size() == 4:
            compare(case, "auto", init_device_mesh("cpu", (2, 2)), GRIDS, WEIGHTS[2:5])


@pytest.mark.slow
@pytest.mark.parametrize("ranks", (2, 4))
def test_ranks_equal_one_process(ranks: int) -> None:
    run_on(ranks, work)


def compiled(mesh: DeviceMesh) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about torch, while it is imported
        importlib.import_module("torch._inductor.compile_fx")
    torch._inductor.config.compile_threads = 1  # no processes that would outlive this one
    row = next(case for case in CASES if case.cls is SGDMRT)
    compare(row, "compiled", mesh, ((Shard(0),),), [((15, 4, 3), {"channel_dims": (0,), "channel_groups": 3})])


@pytest.mark.slow
def test_compiled() -> None:
    run_on(2, compiled)


def hessian_with_random_signs(mesh: DeviceMesh) -> None:
    """The signs are those of rank 0, so the estimate is that of one process."""
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for p, seed in ((start.clone(), 7), (place(start, mesh, (Shard(0),)), 7 + mesh.get_rank())):
        p = Parameter(p)
        optimizer = AdaHessian([p], lr=0.1, n_samples=2, generator=torch.Generator().manual_seed(seed))
        (p.grad,) = torch.autograd.grad(p.sum(0).square().sum(), [p], create_graph=True)
        optimizer.step()
        found.append((p.detach(), optimizer.state[p]["exp_hessian_diag_sq"]))
    for got, want in zip(found[1], found[0], strict=True):
        assert_part(got, want, "AdaHessian")


def test_hessian_with_random_signs() -> None:
    run_on(2, hessian_with_random_signs)


def whole_model_numbers(mesh: DeviceMesh) -> None:
    """One all-reduce for all tensors that are sharded alike, and none for replicated ones."""
    tensors = [torch.full((n, 4), float(n), dtype=torch.float64) for n in (1, 2, 5)]
    for layout, count in (((Shard(0),), 1), ((Shard(1),), 1), ((Replicate(),), 0)):
        with CommDebugMode() as counter:
            norm = global_norm([place(x, mesh, layout) for x in tensors])
        torch.testing.assert_close(norm, torch.cat(tensors).norm())
        assert counter.get_total_counts() == count, layout


def test_whole_model_numbers() -> None:
    run_on(2, whole_model_numbers)
