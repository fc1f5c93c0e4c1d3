"""Lint: what is found in a model, and the restated rules of other libraries held against these libraries."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from autogroup.api import analyze
from autogroup.lint import Finding, against_names, against_timm, against_transformers, lint
from autogroup.partition import Partition
from autogroup.render.lint import print_findings
from autogroup.report import ParameterReport, Report, Role


def codes(findings: tuple[Finding, ...]) -> Mapping[str, str]:
    """Parameter → kind of finding; every finding says what it is and what to do."""
    assert all(finding.what and finding.advice for finding in findings)
    found = {finding.parameter: finding.code for finding in findings}
    assert len(found) == len(findings)
    return found


def report_of(*parameters: ParameterReport) -> Report:
    return Report({p.name: p for p in parameters})


def parameter(name: str, shape: tuple[int, ...] = (4, 4), role: Role = "linear", **more: Any) -> ParameterReport:
    return ParameterReport(name, shape, more.pop("verdict", "variant"), "for a reason", role=role, **more)


# --- findings of the analysis ---------------------------------------------------------------------------------


class Wasteful(nn.Module):
    """One of each: a bias that is subtracted again, a layer nobody calls, an operator without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.forgotten = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.odd = nn.Parameter(torch.rand(8, 8))
        self.head = nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.head(x @ torch.linalg.matrix_exp(self.odd))


def test_what_does_nothing_is_found() -> None:
    found = lint(analyze(Wasteful(), torch.zeros(2, 3, 8, 8)))
    assert codes(found) == {
        "odd": "unknown",
        "conv.bias": "dead-bias",
        "forgotten.weight": "unused",
        "forgotten.bias": "unused",
    }
    by_name = {finding.parameter: finding for finding in found}
    assert "batch_norm in norm" in by_name["conv.bias"].what
    assert "bias=False" in by_name["conv.bias"].advice
    assert "matrix_exp" in by_name["odd"].what


def test_a_clean_model_has_no_findings() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    assert lint(analyze(model, torch.zeros(2, 3, 8, 8))) == ()


def test_a_dead_gain_is_not_told_to_drop_its_bias() -> None:
    whole = Partition.from_dims((4,), (0,))
    gain = parameter("gain", (4,), "norm_scale", verdict="dead", partition=whole)
    (finding,) = lint(report_of(gain))
    assert (finding.code, "bias=False" in finding.advice) == ("dead", False)


# --- weight decay -----------------------------------------------------------------------------------------------


def test_timm_decays_gains_and_terms_with_several_axes() -> None:
    report = report_of(
        parameter("scale", (1, 8, 1, 1), "norm_scale"),
        parameter("cls_token", (1, 1, 8), "other"),
        parameter("fc.weight"),
        parameter("fc.bias", (4,), "bias"),
        parameter("frozen", (1, 8, 1, 1), "norm_scale", trainable=False),
        parameter("never_read", (1, 8, 1, 1), "norm_scale", verdict="unused"),
    )
    assert codes(against_timm(report)) == {"scale": "decayed", "cls_token": "decayed"}


def test_timm_spares_what_the_model_lists() -> None:
    class Listing(nn.Module):
        def no_weight_decay(self) -> set[str]:
            return {"cls_*", "table"}

    report = report_of(parameter("cls_token", (1, 1, 8), "other"), parameter("table", (8, 4), "embedding"))
    found = against_timm(report, Listing())
    assert codes(found) == {"table": "spared"}
    assert "no_weight_decay() lists it" in found[0].what


def test_transformers_decays_norms_that_are_no_layer_norm_by_class_or_name() -> None:
    class RootMeanSquare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8))

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight

    named = {"fc": nn.Linear(8, 8), "ln_1": nn.LayerNorm(8), "ln_2": RootMeanSquare(), "q_norm": RootMeanSquare()}
    model = nn.Sequential()
    for name, module in named.items():
        model.add_module(name, module)
    found = against_transformers(analyze(model, torch.zeros(2, 8)), model)
    assert codes(found) == {"ln_2.weight": "decayed"}


def test_names_are_those_inside_a_wrapper() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    wrapped = nn.DataParallel(model)
    assert against_transformers(analyze(wrapped, torch.zeros(2, 8)), wrapped) == ()


def decayed_under(rule: Any, model: nn.Module) -> set[str]:
    """All names that a restated rule decays: called gains, each of them is a disagreement."""
    gains = [parameter(name, tuple(p.shape), "norm_scale") for name, p in model.named_parameters()]
    return {finding.parameter for finding in rule(report_of(*gains), model) if finding.code == "decayed"}


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "cait_xxs24_224"]
)
def test_the_rule_of_timm_is_that_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    optim = pytest.importorskip("timm.optim", reason="timm is not installed")
    with torch.device("meta"):
        model = timm.create_model(name)
    listed = getattr(model, "no_weight_decay", set)()
    groups = optim.param_groups_weight_decay(model, 0.1, no_weight_decay_list=listed)
    names = {id(p): n for n, p in model.named_parameters()}
    expected = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed_under(against_timm, model) == expected
    assert 0 < len(expected) < len(names)


def zoo_model(name: str) -> nn.Module:
    library, _, model = name.partition(":")
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    with torch.device("meta"):
        if library == "torchvision":
            return module.models.get_model(model, weights=None)
        if library == "timm":
            return module.create_model(model)
        config = getattr(module, f"{model}Config")(num_hidden_layers=2, hidden_size=32, num_attention_heads=4)
        return module.AutoModel.from_config(config)


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name",
    [
        *("torchvision:resnet18", "torchvision:convnext_tiny", "torchvision:swin_t", "timm:vit_tiny_patch16_224"),
        *("transformers:Bert", "transformers:Llama", "transformers:T5", "transformers:Qwen3"),
    ],
)
def test_the_rule_of_transformers_is_that_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = zoo_model(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library_rule = transformers.Trainer.get_decay_parameter_names
    expected = set(library_rule(None, model)) & {n for n, _ in model.named_parameters()}
    assert decayed_under(against_transformers, model) == expected
    assert expected


# --- the name filter --------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Names that mislead: a shortcut the filter misses, a last convolution that no norm follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.gn2 = nn.GroupNorm(2, 8)
        self.shortcut = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.out_conv = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.gn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return self.out_conv((y + self.shortcut(x)).relu())


def test_the_name_filter_is_wrong_both_ways() -> None:
    found = against_names(analyze(Residual(), torch.zeros(2, 8, 8, 8)))
    assert codes(found) == {
        "conv2.weight": "false-claim",
        "shortcut.0.weight": "missed",
        "out_conv.weight": "false-claim",
        "out_conv.bias": "false-claim",
    }
    by_name = {finding.parameter: finding.what for finding in found}
    assert "larger blocks only, (g o) i h w -> g  g=2" in by_name["conv2.weight"]
    assert "o i h w -> o" in by_name["shortcut.0.weight"]


def test_the_name_filter_may_claim_coarser_blocks_than_the_finest() -> None:
    fine = Partition.from_dims((4, 4), (0, 1))
    assert against_names(report_of(parameter("conv.weight", verdict="invariant", partition=fine))) == ()


def test_a_claim_about_what_the_loss_does_not_depend_on_cannot_be_false() -> None:
    assert against_names(report_of(*(parameter(f"conv.{v}", verdict=v) for v in ("dead", "unused", "unknown")))) == ()


# --- the table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [30, 80, 200])
def test_every_finding_is_printed_in_full(width: int) -> None:
    names = ["a.very.long.name.of.a.parameter.weight", "b"]
    findings = [Finding("dead", name, "is subtracted again by the norm behind it", "freeze it") for name in names]
    text = io.StringIO()
    print_findings(findings, console=Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("freeze it" in line for line in lines) == 1
    assert lines[-1] == "2 findings"
    squeezed = "".join("".join(lines).split())
    if width > 30:  # else name and text take turns line by line
        assert all(name in squeezed for name in names)
    assert squeezed.count("norm") == 2


def test_nothing_found_is_said() -> None:
    text = io.StringIO()
    print_findings([], file=text)
    assert text.getvalue() == "no findings\n"
