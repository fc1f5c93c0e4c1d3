"""Recipes: real optimizers train on the groups, and do to each parameter what the recipe promises."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import optimizers
from autogroup import analyze, recipes
from autogroup.errors import GroupError
from autogroup.partition import Partition
from autogroup.report import ParameterReport, Report, Role, Split, Verdict

DECAY, LR = 0.5, 0.1


class Convs(nn.Module):
    """Invariant per channel, per group, as a whole, and not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.n1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.c2, self.n2 = nn.Conv2d(6, 6, 3, bias=False), nn.GroupNorm(2, 6)
        self.c3, self.n3 = nn.Conv2d(6, 6, 1, bias=False), nn.GroupNorm(1, 6)
        self.c4, self.head = nn.Conv2d(6, 4, 1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.n1(self.c1(x)))
        x = F.relu(self.n2(self.c2(x)))
        x = F.gelu(self.c4(F.relu(self.n3(self.c3(x)))))
        return self.head(x.mean((2, 3)))


class Words(nn.Module):
    """One transformer block with a fused qkv, between an embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(11, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.n1, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 11)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x) + self.place
        q, k, v = self.qkv(self.n1(y)).chunk(3, -1)
        y = y + self.out(F.scaled_dot_product_attention(q, k, v))
        return self.head(y + self.down(F.gelu(self.up(y))))


_GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(4, 3, 8, 8, generator=_GENERATOR)
TOKENS = torch.randint(11, (4, 5), generator=_GENERATOR)
INVARIANT: dict[str, Any] = {"c1.weight": ((0,), None), "c2.weight": ((0,), 2), "c3.weight": ((), None)}
ROLES: dict[str, Role] = {
    **dict.fromkeys(("c1.weight", "c2.weight", "c3.weight", "c4.weight"), "conv"),
    **dict.fromkeys(("n1.weight", "n2.weight", "n3.weight"), "norm_scale"),
    **dict.fromkeys(("n1.bias", "n2.bias", "n3.bias"), "norm_shift"),
    **dict.fromkeys(("c4.bias", "head.bias", "qkv.bias", "out.bias", "up.bias", "down.bias"), "bias"),
    **dict.fromkeys(("qkv.weight", "out.weight", "up.weight", "down.weight"), "linear"),
    "embed.weight": "embedding",
    "head.weight": "head",
    "place": "other",
}
WEIGHTS = {"c1.weight", "c2.weight", "c3.weight", "c4.weight", "head.weight"}


def report_for(model: nn.Module, **splits: tuple[Split, ...]) -> Report:
    """What the analysis says of the two models, written down by hand."""
    found: dict[str, ParameterReport] = {}
    for name, p in model.named_parameters():
        shape, keys = tuple(p.shape), INVARIANT.get(name)
        verdict: Verdict = "invariant" if keys else "variant"
        partition = Partition.from_dims(shape, *keys) if keys else None
        found[name] = ParameterReport(name, shape, verdict, "", partition, ROLES[name], depth=int(name[:4] == "head"))
        found[name] = replace(found[name], splits=splits.get(name.replace(".", "_"), ()))
    return Report(found)


def third_party(name: str) -> Any:
    """A class or function of pytorch_optimizer."""
    pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is not installed")
    return getattr(importlib.import_module("pytorch_optimizer"), name)


def backward(model: nn.Module, inputs: Tensor) -> float:
    """One forward and backward pass of a task that can be learned."""
    model.zero_grad()
    output = model(inputs)
    loss = F.cross_entropy(output.flatten(0, -2), torch.arange(output[..., 0].numel()) % output.shape[-1])
    loss.backward()
    return loss.item()


def assert_learns(model: nn.Module, inputs: Tensor, *chosen: torch.optim.Optimizer) -> None:
    losses: list[float] = []
    for _ in range(8):
        losses.append(backward(model, inputs))
        for optimizer in chosen:
            optimizer.step()
    assert min(losses[-3:]) < losses[0]


def step_without_gradient(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Take a step with gradients of zero: FQN → by what the parameter was multiplied, that is, its decay."""
    for p in model.parameters():
        p.data.normal_()
        p.grad = torch.zeros_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    factors = {name: (p.detach() / before[name]).flatten() for name, p in model.named_parameters()}
    assert all(torch.allclose(f, f[0].expand_as(f)) for f in factors.values())
    return {name: float(f[0]) for name, f in factors.items()}


def decayed(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    return {name for name, factor in step_without_gradient(model, optimizer).items() if abs(factor - 1) > 1e-6}


def radial(update: Tensor, p: Tensor) -> Tensor:
    """Cosine between an update and a parameter, per output channel."""
    return F.cosine_similarity(update.flatten(1), p.flatten(1), dim=1).abs()


def step_along(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Take a step whose gradients point along the parameters: FQN → the radial part of the movement."""
    for p in model.parameters():
        p.data.normal_()
        p.grad = p.detach().clone() + 0.1 * torch.randn_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    named = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    return {name: radial(p.detach() - before[name], before[name]) for name, p in named.items()}


def by_name(groups: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return {name: group.get(key) for group in groups for name in group["param_names"]}


def test_the_hand_written_report_is_what_the_analysis_finds() -> None:
    """Except for depth and splits, which have tests of their own."""
    model = Convs()
    by_hand, found = report_for(model), analyze(model, IMAGES)
    for name, p in by_hand.parameters.items():
        real = found.parameters[name]
        assert (real.verdict == "invariant", real.channel_dims, real.channel_groups) == (
            name in INVARIANT,
            p.channel_dims,
            p.channel_groups,
        )
        assert real.role == p.role


# Spheres.


@pytest.mark.parametrize("name", ["AdamSRT", "AdamS", "SGDMRT", "AdamG", "SGDG"])
def test_spherical_optimizers_train(name: str) -> None:
    model = Convs()
    groups = recipes.spherical(report_for(model), model, weight_decay=1e-4)
    assert_learns(model, IMAGES, getattr(optimizers, name)(groups, lr=1e-2))


def test_adam_srt_keeps_one_second_moment_per_block() -> None:
    model = Convs()
    optimizer = optimizers.AdamSRT(recipes.spherical(report_for(model), model), lr=1e-2)
    backward(model, IMAGES)
    optimizer.step()
    sizes = {name: optimizer.state[p]["exp_avg_sq"].numel() for name, p in model.named_parameters()}
    assert {name: sizes[name] for name in INVARIANT} == {"c1.weight": 6, "c2.weight": 2, "c3.weight": 1}
    assert sizes["c4.weight"] == model.c4.weight.numel()


@pytest.mark.parametrize("verdict", ["partial", "joint", "unknown", "dead"])
def test_only_proved_invariance_counts(verdict: Verdict) -> None:
    model = nn.Linear(4, 6, bias=False)
    partition = Partition.from_dims((6, 4), (0,))
    report = Report({"weight": ParameterReport("weight", (6, 4), verdict, "", partition, "linear")})
    assert recipes.spherical(report, model)[0]["channel_dims"] is None
    assert recipes.adamp(report, model)[0]["delta"] == 0.0
    assert recipes.adamc(report, model, weight_decay=0.1)[0]["normalized"] is False
    assert recipes.adamw(report, model, weight_decay=0.1)[0]["weight_decay"] == 0.1


# AdamP.


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_adamp_trains(name: str) -> None:
    model = Convs()
    groups = recipes.adamp(report_for(model), model, weight_decay=1e-4)
    assert_learns(model, IMAGES, third_party(name)(groups, lr=1e-2))


@pytest.mark.parametrize("name", ["AdamP", "SGDP"])
def test_adamp_projects_where_it_is_proved_and_nowhere_else(name: str) -> None:
    model = Convs()
    moved = step_along(model, third_party(name)(recipes.adamp(report_for(model), model), lr=LR))
    assert moved["c1.weight"].max() < 1e-5
    assert all(moved[w].min() > 0.1 for w in ("c4.weight", "head.weight"))
    assert moved["c2.weight"].max() > 0.1  # its blocks are not channels: the guess of the class decides, against it


def test_adamp_without_the_recipe_takes_a_variant_weight_for_invariant() -> None:
    """The guess that the recipe replaces: any gradient across a weight is enough."""
    model = nn.Linear(16, 2, bias=False)
    report = Report({"weight": ParameterReport("weight", (2, 16), "variant", "", None, "head")})
    moved: list[float] = []
    for groups in (list(model.parameters()), recipes.adamp(report, model)):
        optimizer = third_party("SGDP")(groups, lr=LR, weight_decay=1.0)
        model.weight.data.fill_(1.0)
        model.weight.grad = torch.tensor([1.0, -1.0] * 8).repeat(2, 1)
        before = model.weight.detach().clone()
        optimizer.step()
        moved.append(float(((model.weight.detach() - before) * before).sum()))
    assert moved[1] == pytest.approx(10 * moved[0], rel=1e-4)  # the guess cuts the decay to a tenth, wd_ratio


def test_adamp_groups_are_what_the_class_can_express() -> None:
    model = Convs()
    delta = by_name(recipes.adamp(report_for(model), model), "delta")
    assert {n: d for n, d in delta.items() if d != 0} == {"c1.weight": math.inf, "c2.weight": None, "c3.weight": None}


# Adaptive gradient clipping.


def test_agc_clips_all_but_the_head() -> None:
    model = Convs()
    clip = third_party("agc")
    groups = recipes.agc(report_for(model), model, clipping=0.01)
    optimizer = torch.optim.SGD(groups, lr=LR)
    for p in model.parameters():
        p.data.normal_()
        p.grad = torch.ones_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if group["clipping"] is not None:
                p.grad = clip(p, p.grad, agc_clip_val=group["clipping"])
    optimizer.step()
    small = {n for n, p in model.named_parameters() if (p - before[n]).norm() < 0.5 * LR * math.sqrt(p.numel())}
    assert set(before) - small == {"head.weight", "head.bias"}


def test_agc_carries_the_blocks() -> None:
    model = Convs()
    groups = recipes.agc(report_for(model), model)
    assert by_name(groups, "channel_dims")["c2.weight"] == (0,)
    assert by_name(groups, "channel_groups")["c2.weight"] == 2
    assert by_name(groups, "clipping")["c4.bias"] == 0.01


# Decay.


def test_adamw_decays_what_it_regularizes() -> None:
    model = Convs()
    groups = recipes.adamw(report_for(model), model, weight_decay=DECAY)
    assert decayed(model, torch.optim.AdamW(groups, lr=LR)) == {"c4.weight", "head.weight"}
    groups = recipes.adamw(report_for(model), model, weight_decay=DECAY, decay_invariant=True)
    assert decayed(model, torch.optim.AdamW(groups, lr=LR)) == WEIGHTS
    assert_learns(model, IMAGES, torch.optim.AdamW(groups, lr=1e-2))


def test_adamw_leaves_the_position_table_alone() -> None:
    model = Words()
    groups = recipes.adamw(report_for(model), model, weight_decay=DECAY)
    weights = {"embed.weight", "qkv.weight", "out.weight", "up.weight", "down.weight", "head.weight"}
    assert decayed(model, torch.optim.AdamW(groups, lr=LR)) == weights
    assert_learns(model, TOKENS, torch.optim.AdamW(groups, lr=1e-2))


def test_adamc_corrects_the_decay_of_invariant_weights() -> None:
    model = Convs()
    optimizer = third_party("AdamC")(recipes.adamc(report_for(model), model, weight_decay=DECAY), lr=LR)
    for group in optimizer.param_groups:
        group["lr"] = LR / 2  # what a scheduler does
    factors = step_without_gradient(model, optimizer)
    for name, factor in factors.items():
        plain = DECAY * LR / 2 if name in WEIGHTS else 0.0
        assert factor == pytest.approx(1 - plain / 2 if name in INVARIANT else 1 - plain, abs=1e-6)
    assert_learns(model, IMAGES, optimizer)


@pytest.mark.parametrize(("name", "key"), [("LARS", None), ("Lamb", "adam")])
def test_trust_ratio_and_decay_are_for_weights(name: str, key: str | None) -> None:
    model = Convs()
    recipe = {"LARS": recipes.lars, "Lamb": recipes.lamb}[name]
    groups = recipe(report_for(model), model, weight_decay=DECAY)
    assert decayed(model, third_party(name)(groups, lr=LR)) == WEIGHTS
    if key:
        assert {n for n, excluded in by_name(groups, key).items() if not excluded} == WEIGHTS
    assert_learns(model, IMAGES, third_party(name)(groups, lr=1e-2))


def test_lamb_takes_the_trust_ratio_only_where_the_recipe_says() -> None:
    """A parameter that is ten times as long moves ten times as far under the trust ratio."""
    moved: list[dict[str, float]] = []
    for scale in (1.0, 5.0):
        model = Words()
        optimizer = third_party("Lamb")(recipes.lamb(report_for(model), model, weight_decay=0.0), lr=LR)
        for p in model.parameters():
            p.data.fill_(scale / math.sqrt(p.numel()))
            p.grad = torch.ones_like(p)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.step()
        moved.append({name: float((p.detach() - before[name]).norm()) for name, p in model.named_parameters()})
    for name, p in report_for(Words()).parameters.items():
        adapted = p.role in ("linear", "embedding", "head")
        assert moved[1][name] == pytest.approx((5 if adapted else 1) * moved[0][name], rel=1e-4)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["Lars", "Lamb"])
def test_timm_knows_the_excluded_by_their_decay(name: str) -> None:
    timm = pytest.importorskip("timm.optim", reason="timm is not installed")
    recipe = {"Lars": recipes.lars, "Lamb": recipes.lamb}[name]
    moved: list[dict[str, float]] = []
    for scale in (1.0, 5.0):
        model = Words()
        groups = recipe(report_for(model), model, weight_decay=1e-9)
        optimizer = getattr(timm, name)(groups, lr=LR)
        for p in model.parameters():
            p.data.fill_(scale / math.sqrt(p.numel()))
            p.grad = torch.ones_like(p) / math.sqrt(p.numel())
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer.step()
        moved.append({n: float((p.detach() - before[n]).norm()) for n, p in model.named_parameters()})
    for n, p in report_for(Words()).parameters.items():
        adapted = p.role in ("linear", "embedding", "head")
        assert moved[1][n] == pytest.approx((5 if adapted else 1) * moved[0][n], rel=1e-3)


# Muon.

QKV = (
    Split(0, ((0, 8),), "scaled_dot_product_attention.query", ""),
    Split(0, ((8, 16),), "scaled_dot_product_attention.key", ""),
    Split(0, ((16, 24),), "scaled_dot_product_attention.value", "", matrices=2),
)
HIDDEN = {"qkv.weight", "out.weight", "up.weight", "down.weight"}


def random_gradients(model: nn.Module) -> None:
    """Gradients of full rank; many Newton-Schulz iterations then lift the smallest singular values as well."""
    for p in model.parameters():
        p.grad = torch.randn_like(p)


def singular_values(update: Tensor) -> Tensor:
    return torch.linalg.svdvals(update.float())


def test_torch_muon_and_adamw_train_together() -> None:
    model = Words()
    matrices, rest = recipes.muon_and_adamw(report_for(model), model, weight_decay=1e-4)
    assert {name for group in matrices for name in group["param_names"]} == HIDDEN
    assert {id(p) for group in (*matrices, *rest) for p in group["params"]} == {id(p) for p in model.parameters()}
    assert_learns(model, TOKENS, torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-2))


def test_torch_muon_moves_hidden_matrices_orthogonally() -> None:
    model = Words()
    matrices, rest = recipes.muon_and_adamw(report_for(model), model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    random_gradients(model)
    torch.optim.Muon(matrices, lr=LR, weight_decay=0.0, ns_steps=15).step()
    torch.optim.AdamW(rest, lr=LR).step()
    for name in HIDDEN:
        moved = singular_values(model.get_parameter(name).detach() - before[name])
        assert moved.max() / moved.min() < 3  # Newton-Schulz leaves them between about 0.7 and 1.2
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_model_of_kernels_has_nothing_for_torch_muon() -> None:
    model = Convs()
    matrices, rest = recipes.muon_and_adamw(report_for(model), model)
    assert matrices == []
    assert sum(len(group["params"]) for group in rest) == len(list(model.parameters()))


def test_single_class_muon_trains_words() -> None:
    model = Words()
    assert_learns(model, TOKENS, third_party("Muon")(recipes.muon(report_for(model), model), lr=0.02))


def test_single_class_muon_takes_kernels() -> None:
    model = Convs()
    report = report_for(model)
    groups = recipes.muon(report, model, kernels=True)
    hidden = {"c1.weight", "c2.weight", "c3.weight", "c4.weight"}
    assert {name for name, use in by_name(groups, "use_muon").items() if use} == hidden
    assert not any(by_name(recipes.muon(report, model), "use_muon").values())
    optimizer = third_party("Muon")(groups, lr=0.02, ns_steps=15)
    before = model.c1.weight.detach().clone()
    random_gradients(model)
    optimizer.step()
    moved = singular_values((model.c1.weight.detach() - before).flatten(1))
    assert moved.max() / moved.min() < 3
    assert_learns(model, IMAGES, optimizer)


@pytest.mark.parametrize(
    ("role", "shape", "accepted"),
    [
        ("conv", (6, 3, 3, 3), "kernels"),
        ("conv", (6, 3, 3), "kernels"),
        ("conv", (6, 1, 3, 3), ""),  # depthwise
        ("conv", (1, 6, 3, 3), ""),  # one row
        ("linear", (4, 8, 6), "stacks"),
        ("linear", (8,), ""),
        ("embedding", (8, 6), ""),
        ("head", (8, 6), ""),
        ("other", (8, 6), ""),
    ],
)
@pytest.mark.parametrize("flag", ["kernels", "stacks"])
def test_what_is_a_hidden_matrix(role: Role, shape: tuple[int, ...], accepted: str, flag: str) -> None:
    model = nn.ParameterDict({"p": nn.Parameter(torch.zeros(shape))})
    report = Report({"p": ParameterReport("p", shape, "variant", "", None, role)})
    assert recipes.muon(report, model, **{flag: True})[0]["use_muon"] is (flag == accepted)


def test_a_matrix_that_is_also_the_head_is_no_hidden_one() -> None:
    model = nn.Linear(4, 4, bias=False)
    for role, others in (("linear", ("head",)), ("embedding", ("linear",)), ("linear", ("embedding",))):
        report = Report({"weight": ParameterReport("weight", (4, 4), "variant", "", None, role, others)})
        assert recipes.muon(report, model)[0]["use_muon"] is False


def test_splits_are_plain_data_and_part_of_the_group() -> None:
    model = Words()
    groups = recipes.muon(report_for(model, qkv_weight=QKV), model)
    assert by_name(groups, "splits") == {
        **dict.fromkeys(dict(model.named_parameters())),
        **{name: [] for name in HIDDEN},
        "qkv.weight": [
            {"dim": 0, "rows": [[0, 8]], "matrices": 1},
            {"dim": 0, "rows": [[8, 16]], "matrices": 1},
            {"dim": 0, "rows": [[16, 24]], "matrices": 2},
        ],
    }


class SplitMuon(torch.optim.Optimizer):
    """The smallest consumer of ``splits``: one orthogonal update per logical matrix."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"] if group["use_muon"] else []:
                for rows in logical_matrices(group["splits"], p.shape[0]):
                    left, _, right = torch.linalg.svd(p.grad[rows], full_matrices=False)
                    p[rows] -= group["lr"] * left @ right


def logical_matrices(splits: list[dict[str, Any]], rows: int) -> list[Tensor]:
    """Row numbers of each logical matrix."""
    if not splits:
        return [torch.arange(rows)]
    found = [torch.cat([torch.arange(a, b) for a, b in split["rows"]]) for split in splits]
    return [part for all_rows, split in zip(found, splits, strict=True) for part in all_rows.chunk(split["matrices"])]


def test_a_consumer_of_splits_gets_an_orthogonal_update_per_matrix() -> None:
    model = Words()
    optimizer = SplitMuon(recipes.muon(report_for(model, qkv_weight=QKV), model), lr=1.0)
    before = model.qkv.weight.detach().clone()
    backward(model, TOKENS)
    optimizer.step()
    moved = model.qkv.weight.detach() - before
    for part in (moved[:8], moved[8:16], moved[16:20], moved[20:]):
        torch.testing.assert_close(singular_values(part), torch.ones(len(part)))
    assert singular_values(moved).max() > 1.1  # the fused matrix as a whole is not orthogonal


# What all recipes share.

ALL: dict[str, Any] = {
    "spherical": {},
    "adamp": {},
    "agc": {},
    "adamw": {"weight_decay": 0.1},
    "adamc": {"weight_decay": 0.1},
    "muon": {},
    "lars": {"weight_decay": 0.1},
    "lamb": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("name", ALL)
def test_recipes_compose_with_depth_and_overrides(name: str) -> None:
    model = Convs()
    recipe = getattr(recipes, name)
    options = {**ALL[name], "layer_decay": 0.5, "lr": 0.4, "overrides": {"c4.*": {"lr": 7.0}}}
    groups = recipe(report_for(model), model, **options)
    expected = {n: 7.0 if n[:2] == "c4" else 0.4 if n[:4] == "head" else 0.2 for n, _ in model.named_parameters()}
    assert by_name(groups, "lr") == expected
    assert all(group["params"] for group in groups)
    plain = recipe(report_for(model), model, **ALL[name])
    for key in {key for group in plain for key in group} - {"params", "param_names"}:
        assert by_name(groups, key) == by_name(plain, key)


@pytest.mark.parametrize("name", ALL)
def test_recipes_write_only_the_keys_of_their_family(name: str) -> None:
    keys = {key for group in getattr(recipes, name)(report_for(Convs()), Convs(), **ALL[name]) for key in group}
    blocks = {"channel_dims", "channel_groups"}
    own = {
        "spherical": blocks,
        "adamp": blocks | {"delta"},
        "agc": blocks | {"clipping"},
        "adamw": {"weight_decay"},
        "adamc": {"weight_decay", "normalized"},
        "muon": {"use_muon"},
        "lars": {"weight_decay"},
        "lamb": {"weight_decay", "adam"},
    }
    assert keys == own[name] | {"params", "param_names"}


@pytest.mark.parametrize("name", ALL)
def test_recipes_check_their_arguments(name: str) -> None:
    model = Convs()
    with pytest.raises(GroupError, match="weight_decay is -1"):
        getattr(recipes, name)(report_for(model), model, weight_decay=-1)
    with pytest.raises(GroupError, match="layer_decay is 2"):
        getattr(recipes, name)(report_for(model), model, **ALL[name], layer_decay=2)


@pytest.mark.parametrize("value", [-0.1, float("nan"), "1"])
def test_agc_checks_the_clipping(value: Any) -> None:
    model = Convs()
    with pytest.raises(GroupError, match="clipping is"):
        recipes.agc(report_for(model), model, clipping=value)
