"""A small model, trained alone or by several ranks: under fully_shard, or under DistributedDataParallel."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from tests.optimizers.distributed.ranks import assert_part
from tests.optimizers.rows import CASES
from tests.optimizers.wrapped import CASES as WRAPPERS
from tests.optimizers.wrapped import INNER, needs_pc

Build = Callable[[list[dict[str, Any]]], Any]
Keys = Mapping[str, Mapping[str, Any]]
KEYS: Keys = {
    "conv.weight": {"channel_dims": (0,)},  # 5 channels: uneven on 2 ranks, and none of them on the last of 4
    "narrow.weight": {"channel_dims": ()},
    "tied.weight": {"channel_dims": (0,), "channel_groups": 2},  # a block on two ranks
}


class Net(nn.Module):
    """Convolution and batch norm, linear layer and layer norm, and a weight that is used twice."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv, self.batch_norm = nn.Conv2d(2, 5, 2, bias=False), nn.BatchNorm2d(5)
        self.narrow, self.layer_norm = nn.Linear(20, 6, bias=False), nn.LayerNorm(6)
        self.tied, self.again = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        generator = torch.Generator().manual_seed(seed)
        for p in self.double().parameters():
            p.data.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) / 2)
        self.again.weight = self.tied.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.batch_norm(self.conv(x)).sigmoid().flatten(1)
        x = self.layer_norm(self.narrow(x)).tanh()
        return self.again(self.tied(x).tanh())


def groups(net: Net, keys: Keys) -> list[dict[str, Any]]:
    return [{"params": [p], "param_names": [name], **keys.get(name, {})} for name, p in net.named_parameters()]


def builders(wrappers: bool) -> dict[str, Build]:
    """Return how to build every optimizer that works on gradients without a graph, or every wrapper."""
    if wrappers:
        return {
            name: (lambda params, row=row: row.build(INNER["SGD"](params), **row.options))
            for name, row in WRAPPERS.items()
        }
    rows = {case.name: (case, case.configs.get("kinds") or next(iter(case.configs.values()))) for case in CASES}
    return {
        name: (lambda params, case=case, config=config: case.cls(params, **config.kwargs))
        for name, (case, config) in rows.items()
        if case.curvature is None
    }


class Training:
    """Trains on the share of one rank of ``ranks``, or alone on all of their shares.

    Every second step adds up the gradients of two batches; ranks exchange only their sum.

    Args:
        build: builds the optimizer from groups.
        kind: ``"alone"``, ``"fsdp"`` or ``"ddp"``.
        mesh: the ranks with a share of each batch.
        tensor_mesh: the ranks that share one of the layers besides.
        seed: of the weights.
        keys: group keys by parameter name.
    """

    def __init__(
        self,
        build: Build,
        kind: str = "alone",
        mesh: DeviceMesh | None = None,
        tensor_mesh: DeviceMesh | None = None,
        seed: int = 0,
        keys: Keys = KEYS,
    ) -> None:
        self.net, self.kind, self.mesh = Net(seed), kind, mesh
        self.model: Any = self.net
        if tensor_mesh is not None:
            parallelize_module(self.net.narrow, tensor_mesh, ColwiseParallel(output_layouts=Replicate()))
        if kind == "fsdp":
            fully_shard(self.net.conv, mesh=mesh)
            fully_shard(self.net, mesh=mesh)
        elif kind == "ddp":
            self.model = DistributedDataParallel(self.net, gradient_as_bucket_view=True)
        self.optimizer = build(groups(self.net, keys))

    def steps(self, start: int, end: int, ranks: int) -> None:
        """Do steps ``start`` to ``end`` − 1 of a run on ``ranks`` ranks."""
        for t in range(start, end):
            self._step(t, ranks)

    def _step(self, t: int, ranks: int) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.last_loss(t, ranks)
            loss.backward()
            return loss

        surgeon = needs_pc(self.optimizer)
        if surgeon is None:
            closure()
        else:
            surgeon.pc_backward([lambda task=task: self.last_loss(t, ranks, task) for task in (1, 2)])
        self.optimizer.step(closure) if getattr(self.optimizer, "needs_closure", False) else self.optimizer.step()
        getattr(self.optimizer, "epoch_step", lambda: None)()

    def last_loss(self, t: int, ranks: int, task: int = 0) -> Tensor:
        """Do the backward passes of step t but the last one, and return the loss for that."""
        mine = range(ranks) if self.mesh is None or self.mesh.size() != ranks else [self.mesh.get_local_rank()]
        batches = 1 + t % 2
        passes = [(rank, batch) for batch in range(batches) for rank in mine]
        for rank, batch in passes[:-1]:
            with self._exchanging(False):
                self._loss(t, rank, batch, task).div(len(mine)).backward()
        with self._exchanging(True):
            return self._loss(t, *passes[-1], task).div(len(mine))

    def _loss(self, t: int, rank: int, batch: int, task: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * t + 100 * task + 10 * rank + batch)
        x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((4, 2, 3, 3), (4, 6)))
        return (self.model(x) - y).square().mean()

    def _exchanging(self, yes: bool) -> AbstractContextManager[None]:
        if self.kind == "fsdp":
            self.model.set_requires_gradient_sync(yes)
        return self.model.no_sync() if self.kind == "ddp" and not yes else nullcontext()

    def assert_equal(self, other: "Training", where: str) -> None:
        """Compare the parameters, and the whole state of the optimizers."""
        for (name, p), q in zip(self.net.named_parameters(), other.net.parameters(), strict=True):
            assert_part(p.detach(), q.detach(), f"{where} {name}", rtol=1e-7)
            state, want = self.optimizer.state.get(p, {}), other.optimizer.state.get(q, {})
            assert state.keys() == want.keys(), where
            for slot, x in want.items():
                assert_part(state[slot], x, f"{where} {name} {slot}", rtol=1e-7)
