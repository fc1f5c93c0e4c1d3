"""Training on several ranks equals training alone on all of their batches."""

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from autogroup import auto_param_groups
from optimizers import AdaHessian, AdamSRT
from optimizers.wrappers import PCGrad
from tests.optimizers.distributed.ranks import run_on
from tests.optimizers.distributed.training import KEYS, Keys, Net, Training, builders

STEPS = 4


def compare(mesh: DeviceMesh, wrappers: bool) -> None:
    for name, build in builders(wrappers).items():
        alone = Training(build)
        alone.steps(0, STEPS, mesh.size())
        for kind in ("fsdp", "ddp"):
            together = Training(build, kind, mesh)
            together.steps(0, STEPS, mesh.size())
            together.assert_equal(alone, f"{name} {kind}")


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "wrappers"), ((2, False), (4, False), (2, True)))
def test_ranks_equal_one_process(ranks: int, wrappers: bool) -> None:
    run_on(ranks, compare, wrappers)


def compare_grid(mesh: DeviceMesh) -> None:
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    for name in ("AdamSRT", "AdamP", "Lamb", "AdamSWD", "Shampoo"):  # blocks, numbers of the whole model, matrices
        build = builders(wrappers=False)[name]
        alone = Training(build)
        alone.steps(0, STEPS, 2)
        together = Training(build, "fsdp", grid["data"], grid["tensor"])
        together.steps(0, STEPS, 2)
        together.assert_equal(alone, name)


@pytest.mark.slow
def test_data_and_tensor_parallel() -> None:
    """Parameters of two meshes in one optimizer; one of them is cut by both."""
    run_on(4, compare_grid)


def keys_of(net: Net) -> Keys:
    made = auto_param_groups(net, (torch.zeros(4, 2, 3, 3, dtype=torch.float64),))
    kept = ("channel_dims", "channel_groups")
    return {name: {key: group[key] for key in kept} for group in made for name in group["param_names"]}


def compare_found_groups(mesh: DeviceMesh) -> None:
    keys = keys_of(Net())
    found = {name: part["channel_dims"] for name, part in keys.items() if part["channel_dims"] is not None}
    assert found == {name: KEYS[name]["channel_dims"] for name in ("conv.weight", "narrow.weight")}
    alone, together = Training(AdamSRT, keys=keys), Training(AdamSRT, "fsdp", mesh, keys=keys)
    assert keys_of(together.net) == keys  # of the sharded model, too
    for training in (alone, together):
        training.steps(0, STEPS, mesh.size())
    together.assert_equal(alone, "AdamSRT")


def test_groups_from_autogroup() -> None:
    run_on(2, compare_found_groups)


def surgery(mesh: DeviceMesh) -> None:
    """One forward pass for all losses, as a single process would do it."""

    def losses(training: Training, rank: int) -> list[Tensor]:
        x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
        out = training.model(x)
        return [out.square().mean(), (out - 1).square().mean()]

    def build(params: list[dict[str, object]]) -> PCGrad:
        return PCGrad(torch.optim.SGD(params, lr=0.1))

    alone, together = Training(build), Training(build, "fsdp", mesh)
    shares = [losses(alone, rank) for rank in range(2)]
    alone.optimizer.pc_backward([(a + b) / 2 for a, b in zip(*shares, strict=True)])
    together.optimizer.pc_backward(losses(together, mesh.get_rank()))
    for training in (alone, together):
        training.optimizer.step()
    together.assert_equal(alone, "PCGrad")
    with pytest.raises(RuntimeError, match=r"3 tasks .* random order.*generator=torch.Generator\(\)"):
        together.optimizer.pc_backward([*losses(together, mesh.get_rank()), losses(together, 0)[0]])


def test_surgery_on_the_gradients_of_all_ranks() -> None:
    run_on(2, surgery)


def curvature(mesh: DeviceMesh) -> None:
    training = Training(AdaHessian, "fsdp", mesh)
    training.last_loss(0, mesh.size()).backward()
    with pytest.raises(RuntimeError, match=r"no gradient has a graph.* fully_shard and DistributedDataParallel drop"):
        training.optimizer.step()


def test_a_gradient_without_a_graph_has_no_curvature() -> None:
    run_on(2, curvature)
