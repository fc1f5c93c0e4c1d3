"""param_groups(): the contract of the dicts, and every optimizer of torch.optim on them."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autogroup.api import auto_param_groups
from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.errors import GroupError
from autogroup.groups import grouped, param_groups
from autogroup.partition import Partition
from autogroup.report import ROLES, VERDICTS, ParameterReport, Report, Role, Verdict
from tests.zoo.build import build

CHANNELS = ((0,), None)
SPEC: dict[str, tuple[Verdict, Role, Any]] = {
    "0.weight": ("invariant", "conv", CHANNELS),
    "0.bias": ("dead", "bias", None),
    "1.weight": ("variant", "norm_scale", None),
    "1.bias": ("variant", "norm_shift", None),
    "3.weight": ("invariant", "conv", ((0,), 2)),
    "4.weight": ("invariant", "norm_scale", ((), None)),
    "4.bias": ("variant", "norm_shift", None),
    "6.weight": ("variant", "head", None),
    "6.bias": ("variant", "bias", None),
}
DEPTHS = {"0": 0, "1": 0, "3": 1, "4": 1, "6": 2}


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.GroupNorm(2, 8),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def report_for(model: nn.Module, spec: dict[str, tuple[Verdict, Role, Any]] = SPEC) -> Report:
    entries: dict[str, ParameterReport] = {}
    for raw, parameter in unwrap(model).named_parameters():
        name, shape = clean_fqn(raw), tuple(parameter.shape)
        verdict, role, keys = spec[name]
        partition = Partition.from_dims(shape, *keys) if keys else None
        entries[name] = ParameterReport(name, shape, verdict, "", partition, role, depth=DEPTHS[name[0]])
    return Report(entries)


def keys_of(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(g["channel_dims"], g["channel_groups"], g.get("weight_decay")) for g in groups]


def names_of(groups: list[dict[str, Any]]) -> list[list[str]]:
    return [g["param_names"] for g in groups]


# The contract.


def test_groups_share_their_partition() -> None:
    model = net()
    groups = param_groups(report_for(model), model)
    assert keys_of(groups) == [((0,), None, None), (None, None, None), ((0,), 2, None), ((), None, None)]
    assert names_of(groups) == [
        ["0.weight"],
        ["0.bias", "1.weight", "1.bias", "4.bias", "6.weight", "6.bias"],
        ["3.weight"],
        ["4.weight"],
    ]
    named = dict(model.named_parameters())
    for group in groups:
        assert set(group) == {"params", "param_names", "channel_dims", "channel_groups"}
        assert all(named[n] is p for n, p in zip(group["param_names"], group["params"], strict=True))


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_every_trainable_parameter_is_in_exactly_one_group(weight_decay: float | None) -> None:
    model = net()
    model[1].requires_grad_(False)
    groups = param_groups(report_for(model), model, weight_decay=weight_decay)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all(group["params"] for group in groups)


def test_a_frozen_part_leaves_no_empty_group() -> None:
    model = net()
    model[3].requires_grad_(False)
    assert ((0,), 2, None) not in keys_of(param_groups(report_for(model), model))


def test_unfreezing_after_the_analysis_is_seen() -> None:
    model = net().requires_grad_(False)
    report = report_for(model)
    model[6].requires_grad_(True)
    assert names_of(param_groups(report, model)) == [["6.weight", "6.bias"]]


@pytest.mark.parametrize("verdict", ["partial", "joint", "dead", "unknown", "unused", "variant"])
def test_whatever_is_not_invariant_has_no_channels(verdict: Verdict) -> None:
    model = nn.Linear(4, 6, bias=False)
    partition = Partition.from_dims((6, 4), (0,)) if verdict == "partial" else None
    report = Report({"weight": ParameterReport("weight", (6, 4), verdict, "", partition)})
    assert keys_of(param_groups(report, model)) == [(None, None, None)]


def test_a_tied_parameter_is_listed_once_under_its_first_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    groups = param_groups(report_for(model), model)
    assert names_of(groups) == [["0.weight"]]


def test_groups_are_new_each_time_and_in_the_same_order() -> None:
    model = net()
    first, second = (param_groups(report_for(model), model, weight_decay=0.1) for _ in range(2))
    torch.optim.SGD(first, lr=1.0)
    assert "lr" in first[0]
    assert "lr" not in second[0]
    assert (keys_of(first), names_of(first)) == (keys_of(second), names_of(second))


# Weight decay.


def decays(**policy: Any) -> dict[str, float]:
    model = net()
    groups = param_groups(report_for(model), model, **policy)
    return {name: group["weight_decay"] for group in groups for name in group["param_names"]}


def test_decay_goes_to_weights_and_kernels() -> None:
    assert decays(weight_decay=0.1) == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "3.weight": 0.1,
        "4.weight": 0.0,
        "4.bias": 0.0,
        "6.weight": 0.1,
        "6.bias": 0.0,
    }


def test_decay_can_spare_invariant_weights() -> None:
    found = decays(weight_decay=0.1, decay_invariant=False)
    assert {name for name, decay in found.items() if decay} == {"6.weight"}


def test_decay_zero_is_written_and_does_not_split() -> None:
    model = net()
    groups = param_groups(report_for(model), model, weight_decay=0)
    assert all(group["weight_decay"] == 0.0 for group in groups)
    assert len(groups) == 4


@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf"), "0.1", True])
def test_a_decay_that_is_none_is_refused(decay: Any) -> None:
    model = net()
    with pytest.raises(GroupError, match="weight_decay is"):
        param_groups(report_for(model), model, weight_decay=decay)


def decay_of(role: Role, verdict: Verdict, *shape: int) -> float:
    """The decay of the only parameter of a model."""
    model = nn.ParameterDict({"p": nn.Parameter(torch.zeros(shape))})
    report = Report({"p": ParameterReport("p", shape, verdict, "", Partition.from_dims(shape, ()), role)})
    return param_groups(report, model, weight_decay=0.1)[0]["weight_decay"]


@pytest.mark.parametrize(
    ("role", "verdict", "shape", "decayed"),
    [
        ("embedding", "variant", (9, 4), True),
        ("conv", "variant", (1, 1, 3), True),  # a kernel, if a small one
        ("other", "variant", (1, 1, 4), False),  # a class token
        ("other", "joint", (1, 7, 4), False),  # a position table that is added
        ("other", "invariant", (8, 4, 3, 3), True),  # a kernel that is standardized before it is used
        ("other", "invariant", (8,), False),
        ("other", "unknown", (8, 4), True),
        ("norm_scale", "invariant", (8,), False),
    ],
)
def test_decay_is_for_what_multiplies(role: Role, verdict: Verdict, shape: tuple[int, ...], decayed: bool) -> None:
    assert decay_of(role, verdict, *shape) == (0.1 if decayed else 0.0)


# Depth.


def settings(key: str, **policy: Any) -> dict[str, Any]:
    model = net()
    groups = param_groups(report_for(model), model, **policy)
    return {name: group.get(key) for group in groups for name in group["param_names"]}


def test_layer_decay_alone_writes_the_scale() -> None:
    assert settings("lr", layer_decay=0.5) == dict.fromkeys(SPEC)
    scales = settings("lr_scale", layer_decay=0.5)
    assert scales == {name: 0.5 ** (2 - DEPTHS[name[0]]) for name in SPEC}


def test_layer_decay_with_a_rate_writes_the_rate_only() -> None:
    assert settings("lr_scale", layer_decay=0.5, lr=0.8) == dict.fromkeys(SPEC)
    rates = settings("lr", layer_decay=0.5, lr=0.8)
    assert rates == {name: 0.8 * 0.5 ** (2 - DEPTHS[name[0]]) for name in SPEC}


def test_a_rate_alone_is_the_same_for_all() -> None:
    assert settings("lr", lr=1) == dict.fromkeys(SPEC, 1.0)


def test_layer_decay_survives_optimizer_and_scheduler() -> None:
    model = net()
    optimizer = torch.optim.SGD(param_groups(report_for(model), model, layer_decay=0.5, lr=0.8), lr=123.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    train(model, optimizer, torch.randn(4, 3, 6, 6))
    scheduler.step()
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["param_names"]}
    assert rates == pytest.approx({name: 0.08 * 0.5 ** (2 - DEPTHS[name[0]]) for name in SPEC})


@pytest.mark.zoo
def test_the_same_groups_as_timm() -> None:
    """Decay, depth and scale of a vision transformer, found without names, are those of timm's lists of names."""
    timm = pytest.importorskip("timm.optim", reason="timm is not installed")
    model, args, kwargs = build("timm", "vit_tiny_patch16_224")
    ours = auto_param_groups(model, args, kwargs, weight_decay=0.05, layer_decay=0.75)
    theirs = timm.param_groups_layer_decay(
        model, weight_decay=0.05, layer_decay=0.75, no_weight_decay_list=model.no_weight_decay()
    )
    for key in ("weight_decay", "lr_scale"):
        found, expected = ({id(p): g[key] for g in groups for p in g["params"]} for groups in (ours, theirs))
        assert found == pytest.approx(expected)


def test_layers_that_are_frozen_still_count() -> None:
    model = net()
    model[6].requires_grad_(False)
    groups = param_groups(report_for(model), model, layer_decay=0.5)
    assert {group["lr_scale"] for group in groups} == {0.25, 0.5}


@pytest.mark.parametrize("value", [0, -0.5, 1.5, float("nan"), "0.9", True])
def test_a_layer_decay_out_of_bounds_is_refused(value: Any) -> None:
    model = net()
    with pytest.raises(GroupError, match=r"layer_decay is .*in \(0, 1\]"):
        param_groups(report_for(model), model, layer_decay=value)


@pytest.mark.parametrize("value", [-1.0, float("inf"), "1"])
def test_a_rate_out_of_bounds_is_refused(value: Any) -> None:
    model = net()
    with pytest.raises(GroupError, match=r"lr is .*; it must be a finite number >= 0"):
        param_groups(report_for(model), model, lr=value)


# Overrides.


def test_overrides_replace_and_join() -> None:
    overrides = {"6.*": {"lr": 0.3}, "*.bias": {"weight_decay": 0.5, "fused": None}}
    rates = settings("lr", weight_decay=0.1, layer_decay=0.5, lr=0.8, overrides=overrides)
    assert {name: rate for name, rate in rates.items() if name[0] == "6"} == {"6.weight": 0.3, "6.bias": 0.3}
    assert rates["3.weight"] == 0.4
    decay = settings("weight_decay", weight_decay=0.1, overrides=overrides)
    assert decay == {name: 0.5 if name.endswith("bias") else decays(weight_decay=0.1)[name] for name in SPEC}


def test_overrides_may_agree() -> None:
    overrides = {"6.*": {"lr": 0.3}, "6.bias": {"lr": 0.3, "eps": 1.0}}
    assert settings("lr", overrides=overrides)["6.bias"] == 0.3
    assert settings("eps", overrides=overrides) == {name: 1.0 if name == "6.bias" else None for name in SPEC}


def test_overrides_that_disagree_are_named() -> None:
    model = net()
    with pytest.raises(GroupError, match=r"'6\.\*' and '\*\.bias' disagree about 6\.bias: lr is 0\.3 .* 0\.4"):
        param_groups(report_for(model), model, overrides={"6.*": {"lr": 0.3}, "*.bias": {"lr": 0.4}})


def test_a_tied_parameter_is_found_under_each_name() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    report = Report({"0.weight": ParameterReport("0.weight", (4, 4), "variant", "", aliases=("1.weight",))})
    assert param_groups(report, model, overrides={"1.*": {"lr": 1.0}})[0]["lr"] == 1.0
    with pytest.raises(GroupError, match=r"disagree about 0\.weight"):
        param_groups(report, model, overrides={"1.*": {"lr": 1.0}, "0.*": {"lr": 2.0}})


def test_a_frozen_parameter_may_be_matched() -> None:
    model = net()
    model[6].requires_grad_(False)
    groups = param_groups(report_for(model), model, overrides={"6.*": {"lr": 1.0}})
    assert not any("lr" in group for group in groups)


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("0.wieght", "did you mean 0.weight"),
        ("6", "did you mean 6.weight, 6.bias"),
        ("*.wight", "did you mean .*weight"),
        ("zzz", "there are 0.weight, 0.bias, 1.weight"),
    ],
)
def test_a_pattern_without_a_match_suggests(pattern: str, hint: str) -> None:
    model = net()
    with pytest.raises(GroupError, match=f"matches no parameter; {hint}"):
        param_groups(report_for(model), model, overrides={pattern: {"lr": 1.0}})


@pytest.mark.parametrize("key", ["params", "param_names", "channel_dims", "channel_groups"])
def test_reserved_keys_are_refused(key: str) -> None:
    model = net()
    with pytest.raises(GroupError, match=f"sets {key}, which only the analysis may set"):
        param_groups(report_for(model), model, overrides={"*": {key: None}})


@pytest.mark.parametrize("value", [torch.tensor(1.0), {"a": 1}, [object()]])
def test_settings_must_be_plain(value: object) -> None:
    model = net()
    with pytest.raises(GroupError, match="plain Python"):
        param_groups(report_for(model), model, overrides={"*": {"eps": value}})


@pytest.mark.parametrize("key", ["lr", "weight_decay"])
def test_overrides_have_bounds_too(key: str) -> None:
    model = net()
    with pytest.raises(GroupError, match=rf"override '\*': {key} is -1; it must be"):
        param_groups(report_for(model), model, overrides={"*": {key: -1}})


def test_lists_in_overrides_are_not_shared() -> None:
    model = net()
    betas = [0.9, 0.99]
    groups = param_groups(report_for(model), model, overrides={"*": {"betas": betas}})
    groups[0]["betas"].append(0.0)
    assert betas == groups[1]["betas"] == [0.9, 0.99]


# Composition.


def test_policies_that_disagree_are_an_error() -> None:
    model = net()
    with pytest.raises(GroupError, match=r"two policies disagree about 0\.weight: x is 1 for one and 2 for the other"):
        grouped(report_for(model), model, [lambda found: {"x": 1}, lambda found: {"x": 2}])


@st.composite
def reports(draw: st.DrawFn) -> tuple[Report, nn.Module]:
    """A model of free-standing parameters, some frozen, with any verdict, role and depth."""
    model = nn.Module()
    entries: dict[str, ParameterReport] = {}
    for number in range(draw(st.integers(1, 8))):
        name = f"{draw(st.sampled_from('ab'))}{number}"
        shape = draw(st.sampled_from([(4,), (4, 2), (1, 3), (2, 2, 3, 3)]))
        trainable = not entries or draw(st.booleans())
        setattr(model, name, nn.Parameter(torch.zeros(shape), requires_grad=trainable))
        partition = Partition.from_dims(shape, draw(st.sampled_from([(), (0,)])))
        verdict, role = draw(st.sampled_from(VERDICTS)), draw(st.sampled_from(ROLES))
        entries[name] = ParameterReport(name, shape, verdict, "", partition, role, depth=draw(st.integers(0, 3)))
    return Report(entries), model


def optional(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | values


@given(
    reports(),
    optional(st.sampled_from([0, 0.1])),
    st.booleans(),
    optional(st.sampled_from([0.5, 1.0])),
    optional(st.sampled_from([0, 0.3])),
    st.sampled_from([{}, {"*": {"eps": 1}}, {"*0": {"lr": 7.0, "on": True}, "?0": {"on": True}}]),
)
def test_policies_compose(
    made: tuple[Report, nn.Module],
    weight_decay: float | None,
    decay_invariant: bool,
    layer_decay: float | None,
    lr: float | None,
    overrides: dict[str, dict[str, Any]],
) -> None:
    report, model = made
    policy: dict[str, Any] = {
        "weight_decay": weight_decay,
        "decay_invariant": decay_invariant,
        "layer_decay": layer_decay,
        "lr": lr,
        "overrides": overrides,
    }
    groups = param_groups(report, model, **policy)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    listed = [(name, p) for g in groups for name, p in zip(g["param_names"], g["params"], strict=True)]
    assert sorted(name for name, _ in listed) == sorted(trainable)
    assert all(trainable[name] is p for name, p in listed)
    assert all(group["params"] for group in groups)
    # Each parameter has, of every policy, what it would have under that policy alone.
    for key, alone in (
        ("channel_dims", {}),
        ("weight_decay", {"weight_decay": weight_decay, "decay_invariant": decay_invariant}),
        ("lr", {"layer_decay": layer_decay, "lr": lr, "overrides": overrides}),
        ("lr_scale", {"layer_decay": layer_decay, "lr": lr}),
        ("eps", {"overrides": overrides}),
        ("on", {"overrides": overrides}),
    ):
        expected = {n: g.get(key) for g in param_groups(report, model, **alone) for n in g["param_names"]}
        assert {n: g.get(key) for g in groups for n in g["param_names"]} == expected
    # Groups differ from each other, come in the order of the model, and are plain data.
    plain = [{k: v for k, v in g.items() if k not in ("params", "param_names")} for g in groups]
    assert len({repr(sorted(p.items())) for p in plain}) == len(groups)
    assert [g["param_names"][0] for g in groups] == [n for n in trainable if n in {g["param_names"][0] for g in groups}]
    assert all(isinstance(v, int | float | tuple | None) for p in plain for v in p.values())


# Reports and models that do not fit.


def test_missing_extra_and_misshaped_parameters_are_named() -> None:
    model = net()
    report = report_for(model)
    other = nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(2, 2, bias=True))
    with pytest.raises(GroupError) as caught:
        param_groups(report, other)
    text = str(caught.value)
    assert "only in the model: 3.bias" in text
    assert "only in the report: 4.weight, 4.bias, 6.weight, 6.bias" in text
    assert "0.weight (model (9, 3, 3, 3), report (8, 3, 3, 3))" in text


def test_a_frozen_model_says_so() -> None:
    model = net().requires_grad_(False)
    with pytest.raises(GroupError, match=r"all 9 parameters of Sequential are frozen.*requires_grad_\(True\)"):
        param_groups(report_for(model), model)


def test_a_module_without_parameters_says_so() -> None:
    with pytest.raises(GroupError, match="ReLU has no parameters"):
        param_groups(Report({}), nn.ReLU())


# Wrapped models.


def assert_same_groups(wrapped: nn.Module) -> list[dict[str, Any]]:
    bare = net()
    groups = param_groups(report_for(bare), wrapped)
    expected = param_groups(report_for(bare), bare)
    assert (keys_of(groups), names_of(groups)) == (keys_of(expected), names_of(expected))
    owned = {id(p) for p in wrapped.parameters()}
    assert {id(p) for group in groups for p in group["params"]} == owned
    return groups


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_compiled() -> None:
    assert_same_groups(torch.compile(net(), backend="eager"))
    part = net()
    part[0] = torch.compile(part[0], backend="eager")
    assert_same_groups(part)


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:.*hostname of the client socket.*")
def test_ddp() -> None:
    assert_same_groups(torch.compile(nn.parallel.DistributedDataParallel(net()), backend="eager"))


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:.*hostname of the client socket.*")
def test_fully_shard() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = net()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    groups = assert_same_groups(model)
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["0.weight"]


# Every optimizer of torch.

OPTIMIZERS = sorted(
    name
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
)
SPECIAL = {"LBFGS", "Muon", "SparseAdam"}


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


def assert_round_trip(optimizer: torch.optim.Optimizer, fresh: torch.optim.Optimizer) -> None:
    """Names and channels survive a state dict that is saved, and loaded with ``weights_only=True``."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for before, after in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        for key in ("param_names", "channel_dims", "channel_groups"):
            assert after[key] == before[key]
        assert len(after["param_names"]) == len(after["params"])


def test_the_list_of_optimizers_is_complete() -> None:
    assert {"SGD", "AdamW", "Adafactor", *SPECIAL} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in SPECIAL])
def test_optimizers_construct_step_and_reload(name: str) -> None:
    model = net()
    report = report_for(model)
    cls = getattr(torch.optim, name)
    optimizer = cls(param_groups(report, model, weight_decay=0.01), lr=0.01)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0, 0.01, 0.0, 0.01]
    before = [p.detach().clone() for p in model.parameters()]
    train(model, optimizer, torch.randn(4, 3, 6, 6))
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert all(moved[2:])
    twin = copy.deepcopy(model)
    assert_round_trip(optimizer, cls(param_groups(report, twin, weight_decay=0.01), lr=0.01))


def test_lbfgs_takes_the_one_group_of_a_plain_model() -> None:
    model = nn.Linear(4, 2)
    entries = {n: ParameterReport(n, tuple(p.shape), "variant", "") for n, p in model.named_parameters()}
    optimizer = torch.optim.LBFGS(param_groups(Report(entries), model))
    train(model, optimizer, torch.randn(4, 4))
    assert_round_trip(optimizer, torch.optim.LBFGS(param_groups(Report(entries), model)))


def test_muon_takes_matrices() -> None:
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 2, bias=False))
    spec: dict[str, tuple[Verdict, Role, Any]] = {
        "0.weight": ("invariant", "linear", CHANNELS),
        "1.weight": ("variant", "head", None),
    }
    report = report_for(model, spec)
    optimizer = torch.optim.Muon(param_groups(report, model, weight_decay=0.1), lr=0.1)
    train(model, optimizer, torch.randn(4, 4))
    assert_round_trip(optimizer, torch.optim.Muon(param_groups(report, model, weight_decay=0.1), lr=0.1))


def test_sparse_adam_takes_sparse_gradients() -> None:
    model = nn.Embedding(6, 4, sparse=True)
    report = Report({"weight": ParameterReport("weight", (6, 4), "variant", "", role="embedding")})
    optimizer = torch.optim.SparseAdam(param_groups(report, model), lr=0.1)
    train(model, optimizer, torch.tensor([1, 3]))
    assert_round_trip(optimizer, torch.optim.SparseAdam(param_groups(report, model), lr=0.1))


def test_groups_pass_through_a_scheduler() -> None:
    model = net()
    optimizer = torch.optim.SGD(param_groups(report_for(model), model), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    train(model, optimizer, torch.randn(4, 3, 6, 6))
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [0.5] * 4
