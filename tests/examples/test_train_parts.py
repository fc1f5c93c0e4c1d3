"""The parts of the training example: models, groups, schedules, presets, and the effective learning rate."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from torch import nn

import autogroup
from optimizers import AdamSRT, Lookahead
from tests.examples.kit import HERE, SMALL
from training.data import load
from training.distributed import whole
from training.effective import EffectiveRate, angles, blocks
from training.loop import train_epoch, update
from training.models import MODELS, build_model
from training.optimizer import build_optimizer, innermost, optimizer_class, split_options
from training.presets import PRESETS, find_preset
from training.run import prepare
from training.schedule import factor
from training.settings import Settings, UsageError

PARAMETERS = {"resnet18": 11_173_962, "resnet20": 272_474, "resnet34": 21_282_122, "vgg16": 14_724_042}
"""Of the networks for 32×32 images and 10 classes; resnet20 with projections in its two shrinking shortcuts."""
CONVOLUTIONS = {"resnet18": 20, "resnet20": 21, "resnet34": 36, "vgg16": 13}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model = build_model(name, channels=3, classes=10, size=32, seed=0)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    report = autogroup.analyze(model, (torch.zeros(2, 3, 32, 32),))
    found = {name: p for name, p in report.parameters.items() if p.verdict == "invariant"}
    assert len(found) == CONVOLUTIONS[name] == sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert {p.channel_dims for p in found.values()} == {(0,)}
    assert build_model(name, channels=1, classes=7, size=8, seed=0)(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    again = build_model(name, channels=3, classes=10, size=32, seed=0).state_dict()
    assert all(torch.equal(x, again[key]) for key, x in model.state_dict().items())


def test_large_images_get_another_stem() -> None:
    model = build_model("resnet18", channels=3, classes=1000, size=224, seed=0)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # the published network
    assert model.pool(model.conv(torch.zeros(1, 3, 64, 64))).shape == (1, 64, 16, 16)


# --- effective learning rate -----------------------------------------------------------------------------------------


def test_blocks_are_rows() -> None:
    w = torch.arange(2 * 6 * 3.0).reshape(6, 2, 3)
    assert torch.equal(blocks(w, (0,), None), w.reshape(6, 6))
    assert torch.equal(blocks(w, (), None), w.reshape(1, 36))
    assert torch.equal(blocks(w, (1,), None), w.transpose(0, 1).reshape(2, 18))
    assert torch.equal(blocks(w, (0,), 3).sort().values, w.reshape(3, 12))  # in any order
    grouped = blocks(w, (0, 1), 3)
    assert torch.equal(grouped[0].sort().values, w[:2, 0].flatten())
    assert torch.equal(grouped[1].sort().values, w[:2, 1].flatten())


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi / 2, math.pi])
def test_angles_are_accurate_also_when_small(angle: float) -> None:
    before = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    after = 0.1 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert angles(before, after).item() == pytest.approx(angle, rel=1e-6, abs=1e-15)


def test_effective_rate_of_sgd_is_what_the_theory_says() -> None:
    """To first order, a step of SGD turns a block by lr / ‖w‖² times the gradient with respect to its direction."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(64, 3)).double()
    images = torch.randn(8, 1, 6, 6, dtype=torch.float64)
    report = autogroup.analyze(model, (images,))
    measured = EffectiveRate(report, model, steps=1)
    optimizer = torch.optim.SGD(report.param_groups(model), lr=1e-4)
    measured.start(0)
    model(images).square().mean().backward()
    weight = body[0].weight
    norms = weight.detach().flatten(1).norm(dim=1)
    slopes = norms * weight.grad.flatten(1).norm(dim=1)  # of the direction
    optimizer.step()
    measured.end({"0.0.weight": 1e-4})
    (row,) = measured.rows(epoch=7)
    assert (row["epoch"], row["layer"]) == (7, "0.0.weight")
    assert row["lr_over_norm2"] == pytest.approx(1e-4 / norms.square().mean().item(), rel=1e-9)
    assert row["angle"] == pytest.approx((1e-4 / norms.square() * slopes).mean().item(), rel=1e-3)
    assert measured.rows(epoch=8) == []


def test_some_steps_are_measured() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2))
    measured = EffectiveRate(autogroup.analyze(model, torch.zeros(4, 3)), model, steps=45)
    for step in range(45):
        measured.start(step)
        with torch.no_grad():
            model[0].weight.mul_(2)  # no turn
        measured.end({"0.weight": 1.0})
    assert measured.sums["0.weight"][2] == 12  # every fourth
    assert measured.rows(1)[0]["angle"] == pytest.approx(0, abs=1e-7)
    assert whole(model[0].weight) is model[0].weight


# --- optimizers ------------------------------------------------------------------------------------------------------


def build(**settings: Any) -> tuple[nn.Module, Any]:
    model = build_model("resnet20", 1, 10, 8, seed=0)
    report = autogroup.analyze(model, (torch.zeros(2, 1, 8, 8),))
    return model, build_optimizer(Settings(**settings), report, model, total_steps=100)


def of(optimizer: Any, key: str) -> dict[str, Any]:
    return {name: group.get(key) for group in optimizer.param_groups for name in group["param_names"]}


def test_names() -> None:
    assert optimizer_class("AdamSRT") is AdamSRT
    assert optimizer_class("radam") is not torch.optim.RAdam
    assert optimizer_class("torch.RAdam") is torch.optim.RAdam
    assert optimizer_class("AdamW") is torch.optim.AdamW
    for name in ("torch.adamsrt", "lbfgs", "sparseadam", "muon", "optimizer"):
        with pytest.raises(UsageError, match="no optimizer is called"):
            optimizer_class(name)


def test_groups_and_decay() -> None:
    _, optimizer = build(options={"weight_decay": 0.1})
    assert of(optimizer, "channel_dims")["conv.weight"] == (0,)
    assert of(optimizer, "channel_dims")["head.weight"] is None
    assert set(of(optimizer, "weight_decay").values()) == {0.1}
    _, optimizer = build(options={"weight_decay": 0.1}, decay="weights")
    assert of(optimizer, "weight_decay")["bn.weight"] == of(optimizer, "weight_decay")["head.bias"] == 0
    assert of(optimizer, "weight_decay")["conv.weight"] == of(optimizer, "weight_decay")["head.weight"] == 0.1
    _, optimizer = build(optimizer="adamw", options={"weight_decay": 0.1}, decay="variant")
    assert of(optimizer, "weight_decay")["conv.weight"] == 0
    assert of(optimizer, "weight_decay")["head.weight"] == 0.1


def test_clipping_spares_the_head() -> None:
    _, optimizer = build(optimizer="sgd_agc", options={"clipping": 0.16})
    clipping = of(optimizer, "clipping")
    assert clipping.pop("head.weight") is None and clipping.pop("head.bias") is None
    assert set(clipping.values()) == {0.16}


def test_wrappers_go_from_the_inside_out() -> None:
    options = {"lr": 0.1, "sam.rho": 0.3, "lookahead.k": 2}
    _, optimizer = build(optimizer="torch.sgd", wrap=("sam", "lookahead"), options=options)
    assert isinstance(optimizer, Lookahead)
    assert type(optimizer.optimizer).__name__ == "SAM"
    assert isinstance(innermost(optimizer), torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["rho"], group["k"]) == (0.1, 0.3, 2)


def test_schedules_of_their_own() -> None:
    _, optimizer = build(optimizer="ranger21")
    assert optimizer.param_groups[0]["num_iterations"] == 100
    assert not optimizer.param_groups[0]["disable_lr_scheduler"]
    _, optimizer = build(optimizer="ranger21", schedule="cosine")
    assert optimizer.param_groups[0]["disable_lr_scheduler"]


def test_rmsgd_ends_its_epochs() -> None:
    run = prepare(Settings(optimizer="rmsgd", **SMALL), HERE)
    train_epoch(run, lambda: False)
    states = [state for state in run.optimizer.state.values() if "epoch" in state]
    assert states and all(float(state["epoch"]) == 1 for state in states if float(state["ready"]))


def test_accumulation_is_the_mean_over_the_parts() -> None:
    """Without batch norm, whose statistics depend on the parts, it changes nothing but rounding."""

    def weights(parts: int) -> list[torch.Tensor]:
        run = prepare(Settings(optimizer="torch.sgd", options={"lr": 0.1}, accumulate=parts, **SMALL), HERE)
        run.net.eval()
        images = torch.stack([run.data.train[i][0] for i in range(32)])
        labels = torch.tensor([int(run.data.train[i][1]) for i in range(32)])
        update(run, (images, labels))
        return list(run.model.parameters())

    for a, b, start in zip(weights(1), weights(4), prepare(Settings(**SMALL), HERE).model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert not torch.equal(a, start)


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [0.5, 1, *((1 + math.cos(math.pi * k / 6)) / 2 for k in range(6))]),
        ("step", [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("knee", [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    settings = Settings(epochs=4, warmup=1, milestones=(2, 3))
    found = [factor(settings, schedule, t, steps_per_epoch=2) for t in range(8)]
    assert found[0] == 0.5
    assert found == pytest.approx([0.5, 1.0, *expected[2:]])


# --- presets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings_of_this_project(name: str) -> None:
    preset = PRESETS[name]
    assert preset.source and "lr" in preset.settings["options"]
    settings = Settings(**{"epochs": 300, **preset.settings}, preset=name)
    own, _ = split_options(settings)
    known = optimizer_class(settings.optimizer)
    required = {"num_iterations": 10} if settings.optimizer == "ranger21" else {}
    known([nn.Parameter(torch.ones(2, 2))], **{**own, **required})
    assert all(0 < milestone < settings.epochs for milestone in settings.milestones)


def test_some_published_numbers() -> None:
    row = find_preset("adamsrt/cifar10-resnet18-adamsrt").settings
    assert row["options"] == {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 7.8125e-06}
    assert (row["epochs"], row["batch_size"], row["milestones"], row["gamma"]) == (405, 128, (135, 225, 315), 0.1)
    assert find_preset("adamsrt/svhn-vgg16-sgdmrt").settings["options"]["weight_decay"] == 3.125e-05
    assert "weight_decay" not in find_preset("adamsrt/cifar10-resnet20-adamw").settings["options"]
    assert len([name for name in PRESETS if name.startswith("adamsrt/")]) == 54
    assert find_preset("rmsgd/cifar10-resnet34-rmsgd").settings["options"]["beta"] == 0.98
    assert find_preset("agc_optims/cifar10-resnet20-adam_agc").settings["options"] == {"lr": 1e-3, "clipping": 0.16}


def test_milestones_move_with_the_number_of_epochs() -> None:
    preset = find_preset("adamsrt/cifar10-resnet18-adamsrt")
    assert preset.scaled(9)["milestones"] == (3, 5, 7)
    assert preset.scaled(None)["milestones"] == preset.settings["milestones"] == (135, 225, 315)


def test_defaults_of_pytorch_optimizer_are_those_of_the_package() -> None:
    package = pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is not installed")
    rows = {name.split("/")[1]: row for name, row in PRESETS.items() if name.startswith("pytorch_optimizer/")}
    for name, row in rows.items():
        published = inspect.signature(package.load_optimizer(name)).parameters
        for option, value in row.settings["options"].items():
            assert published[option].default == value, f"{name}: {option}"


def test_the_default_run_has_data_that_fit() -> None:
    settings = Settings()
    found = load(settings)
    assert MODELS[settings.model](found.channels, found.classes, found.size)(found.test[0][0][None]).shape == (1, 10)
