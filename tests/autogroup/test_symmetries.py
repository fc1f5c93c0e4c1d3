"""Symmetries of several parameters: small networks with what must be found, held against a numeric oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import autogroup
from autogroup.report import Report
from autogroup.symmetry import Member, Symmetry
from tests.autogroup.netkit import IMAGE, ROWS, TOKENS, Net, conv, linear, parameter
from tests.autogroup.symmetry_oracle import missing_directions

FEW = torch.tensor([[0, 1, 2, 3, 1], [3, 2, 1, 1, 0]])


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def heads(x: Tensor, count: int) -> Tensor:
    """``b s (h d) -> b h s d``."""
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, count: int = 2) -> Tensor:
    mixed = F.scaled_dot_product_attention(heads(q, count), heads(k, count), heads(v, count))
    return mixed.transpose(1, 2).flatten(2)


def rotated(x: Tensor) -> Tensor:
    """Rotary embedding: pairs of channels mix."""
    angle = torch.arange(x.shape[1]).view(1, -1, 1) * torch.ones(x.shape[-1])
    half = x.shape[-1] // 2
    return x * angle.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angle.sin()


def block(m: Any, x: Tensor) -> Tensor:
    """One pre-norm transformer block on a stream of six channels."""
    y = rms(x)
    x = x + m.o(attention(m.q(y), m.k(y), m.v(y)))
    y = rms(x)
    return x + m.down(F.silu(m.gate(y)) * m.up(y))


def block_parts() -> dict[str, nn.Module]:
    square = {name: linear(6, 6) for name in "qkvo"}
    return {**square, "gate": linear(6, 5), "up": linear(6, 5), "down": linear(5, 6)}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], set[str]]] = {
    "weight_and_bias_before_layer_norm": (
        lambda: Net(lambda m, x: F.layer_norm(m.fc(x), (4,)), fc=linear(3, 4, True)),
        (ROWS,),
        {"joint scale: fc.weight × α, fc.bias × α"},
    ),
    "weight_and_bias_before_rms_norm": (
        lambda: Net(lambda m, x: rms(m.fc(x)), fc=linear(3, 4, True)),
        (ROWS,),
        {"joint scale: fc.weight × α, fc.bias × α"},
    ),
    "weight_and_bias_before_group_norm": (
        lambda: Net(lambda m, x: F.group_norm(m.conv(x), 2), conv=conv(2, 6, 3, bias=True)),
        (IMAGE,),
        {"joint scale: conv.weight[i] × α, conv.bias[i] × α  (2 of them)"},
    ),
    "relu_layers": (
        lambda: Net(lambda m, x: m.b(torch.relu(m.a(x))), a=linear(3, 5, True), b=linear(5, 2, True)),
        (ROWS,),
        {"rescale: a.weight[i] × α, a.bias[i] × α, b.weight[:, i] × α^-1  (5 of them)"},
    ),
    "gelu_layers": (
        lambda: Net(lambda m, x: m.b(F.gelu(m.a(x))), a=linear(3, 5, True), b=linear(5, 2, True)),
        (ROWS,),
        set(),
    ),
    "squared_relu": (
        lambda: Net(lambda m, x: m.b(torch.relu(m.a(x)).square()), a=linear(3, 5, True), b=linear(5, 2, True)),
        (ROWS,),
        {"rescale: a.weight[i] × α, a.bias[i] × α, b.weight[:, i] × α^-2  (5 of them)"},
    ),
    "gain_before_a_linear_layer": (
        lambda: Net(lambda m, x: m.fc(rms(x) * m.gain), gain=parameter(6), fc=linear(6, 3, True)),
        (TOKENS,),
        {"rescale: gain[i] × α, fc.weight[:, i] × α^-1  (6 of them)"},
    ),
    "queries_and_keys": (
        lambda: Net(lambda m, x: attention(m.q(x), m.k(x), x), q=linear(6, 6), k=linear(6, 6)),
        (TOKENS,),
        {"rescale: q.weight[i] × α, k.weight[i] × α^-1  (6 of them)"},
    ),
    "rotated_queries_and_keys": (
        lambda: Net(
            lambda m, x: F.scaled_dot_product_attention(rotated(m.q(x)), rotated(m.k(x)), x),
            q=linear(6, 6),
            k=linear(6, 6),
        ),
        (TOKENS,),
        {"rescale: q.weight[i] × α, k.weight[i] × α^-1  (3 of them)"},
    ),
    "fused_qkv": (
        lambda: Net(lambda m, x: m.o(attention(*m.qkv(x).chunk(3, -1))), qkv=linear(6, 12, True), o=linear(4, 3, True)),
        (TOKENS,),
        {
            "rescale: qkv.weight[4:8] × α, qkv.weight[0:4] × α^-1, qkv.bias[4:8] × α, qkv.bias[0:4] × α^-1"
            "  (4 of them)",
            "rescale: qkv.weight[8:12] × α, qkv.bias[8:12] × α, o.weight[:, i] × α^-1  (4 of them)",
        },
    ),
    "grouped_queries": (
        lambda: Net(
            lambda m, x: F.scaled_dot_product_attention(
                heads(m.q(x), 4), *(heads(f(x), 2).repeat_interleave(2, 1) for f in (m.k, m.v))
            ).sum(1),
            q=linear(6, 8),
            k=linear(6, 4),
            v=linear(6, 4),
        ),
        (TOKENS,),
        {"rescale: q.weight[i] × α, k.weight[i] × α^-1  (4 of them)"},
    ),
    "pre_norm_transformer": (
        lambda: Net(
            lambda m, x: m.head(rms(block(m, m.table(x)))), table=nn.Embedding(4, 6), head=linear(6, 4), **block_parts()
        ),
        (FEW,),
        {
            "joint scale: table.weight × α, o.weight × α, down.weight × α",
            "rescale: q.weight[i] × α, k.weight[i] × α^-1  (6 of them)",
            "rescale: v.weight[i] × α, o.weight[:, i] × α^-1  (6 of them)",
            "rescale: up.weight[i] × α, down.weight[:, i] × α^-1  (5 of them)",
        },
    ),
    "stream_read_without_a_norm": (
        lambda: Net(
            lambda m, x: m.head(block(m, m.table(x))), table=nn.Embedding(4, 6), head=linear(6, 4), **block_parts()
        ),
        (FEW,),
        {
            "rescale: table.weight × α, head.weight × α^-1, o.weight × α, down.weight × α",
            "rescale: q.weight[i] × α, k.weight[i] × α^-1  (6 of them)",
            "rescale: v.weight[i] × α, o.weight[:, i] × α^-1  (6 of them)",
            "rescale: up.weight[i] × α, down.weight[:, i] × α^-1  (5 of them)",
        },
    ),
    "convolutions_with_batch_norm": (
        lambda: Net(
            lambda m, x: m.b(torch.relu(m.bn(m.a(x)))), a=conv(2, 4, 3, bias=True), bn=nn.BatchNorm2d(4), b=conv(4, 3)
        ),
        (IMAGE,),
        {"rescale: bn.weight[i] × α, bn.bias[i] × α, b.weight[:, i] × α^-1  (4 of them)"},
    ),
    "depthwise_then_layer_norm": (
        lambda: Net(
            lambda m, x: F.layer_norm(m.dw(m.stem(x)).movedim(1, -1), (4,)),
            stem=conv(2, 4, bias=True),
            dw=conv(4, 4, 3, padding=1, groups=4, bias=True),
        ),
        (IMAGE,),
        {
            "rescale: stem.weight[i] × α, stem.bias[i] × α, dw.weight[i] × α^-1  (4 of them)",
            "joint scale: dw.weight × α, dw.bias × α",
        },
    ),
    "layer_scale": (
        lambda: Net(
            lambda m, x: rms(m.a(x) + m.gamma * m.b(x)), a=linear(6, 4), b=linear(6, 4, True), gamma=parameter(4)
        ),
        (TOKENS,),
        {
            "joint scale: gamma × α, a.weight × α",
            "rescale: gamma[i] × α, b.weight[i] × α^-1, b.bias[i] × α^-1  (4 of them)",
        },
    ),
    "tied_embedding_and_head": (
        lambda: _Tied(),
        (FEW,),
        {"rescale: gain × α, table.weight × α^-1"},
    ),
    "an_unseen_gradient_takes_no_part": (
        lambda: Net(lambda m, x: rms(m.a(x) + m.b(x).detach()), a=linear(6, 4), b=linear(6, 4)),
        (TOKENS,),
        set(),
    ),
    "padding_scales_with_anything": (
        lambda: Net(lambda m, x: rms(F.pad(m.a(x), (0, 2)) + m.b(x)), a=linear(6, 2), b=linear(6, 4)),
        (TOKENS,),
        {"joint scale: a.weight × α, b.weight × α"},
    ),
}


class _Tied(nn.Module):
    """The head is the embedding table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6)
        self.gain = parameter(6)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rms(self.table(x)) * self.gain, self.table.weight)


NOT_FOUND = {
    # Keys get a bias that softmax does not see: these four numbers may be anything, but a parameter is `dead` as a
    # whole or not at all.
    "fused_qkv": 4,
    # What has no gradient looks free to the oracle, which knows gradients only.
    "an_unseen_gradient_takes_no_part": 9,
}

each_network = pytest.mark.parametrize("name", NETWORKS)


def analyzed(name: str) -> tuple[nn.Module, tuple[Any, ...], Report]:
    build, args, _ = NETWORKS[name]
    model = build()
    return model, args, autogroup.analyze(model, args)


def of_several(report: Report) -> set[str]:
    return {str(s) for s in report.symmetries if s.kind != "scale"}


@each_network
def test_the_symmetries_of_the_table_are_found(name: str) -> None:
    _, _, report = analyzed(name)
    found = of_several(report)
    print("\n".join(sorted(found)))
    assert NETWORKS[name][2] <= found
    assert bool(found) == bool(NETWORKS[name][2])


@each_network
def test_every_symmetry_is_proved(name: str) -> None:
    model, args, report = analyzed(name)
    certificate = autogroup.certify(model, report, args, rescale=True)
    assert certificate.refuted == ()
    assert certificate.counts()["undecided"] == 0


@each_network
def test_no_symmetry_is_missing(name: str) -> None:
    model, args, report = analyzed(name)
    assert missing_directions(model, args, report) == NOT_FOUND.get(name, 0)


def test_the_oracle_sees_what_is_missing() -> None:
    model, args, report = analyzed("relu_layers")
    assert missing_directions(model, args, Report(report.parameters)) == 5


def test_a_false_symmetry_is_refuted() -> None:
    model, args, report = analyzed("relu_layers")
    whole = torch.zeros(1, 1, dtype=torch.int64)
    wrong = [
        Member(name, Fraction(1), tuple(getattr(model, name[0]).weight.shape), whole)
        for name in ("a.weight", "b.weight")
    ]
    false = Report(report.parameters, symmetries=(Symmetry("joint scale", tuple(wrong), 1),))
    for rescale in (False, True):
        assert len(autogroup.certify(model, false, args, rescale=rescale).refuted) == 1


@each_network
def test_runs_of_channels_give_coarser_symmetries_that_are_true(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Very wide models get one log-scale per run of rows or columns."""
    monkeypatch.setattr("autogroup.infer.symmetries.MAX_VARIABLES", 20)
    model, args, report = analyzed(name)
    certificate = autogroup.certify(model, report, args)
    assert certificate.refuted == ()
    joint = {s for s in NETWORKS[name][2] if s.startswith("joint") and "[" not in s}
    assert joint <= of_several(report)


def test_the_joint_verdict_names_partners_and_blocks() -> None:
    _, _, report = analyzed("weight_and_bias_before_group_norm")
    weight = report.parameters["conv.weight"]
    assert (weight.verdict, weight.partners, weight.channel_dims) == ("joint", ("conv.bias",), None)
    assert str(weight.partition) == "(g o) i h w -> g  g=2"
    assert report.parameters["conv.bias"].partners == ("conv.weight",)
    assert weight.reason.startswith("only together with conv.bias; alone: ")


def test_all_writers_of_a_stream_are_joint() -> None:
    _, _, report = analyzed("pre_norm_transformer")
    writers = {"table.weight", "o.weight", "down.weight"}
    for name in writers:
        assert report.parameters[name].verdict == "joint"
        assert set(report.parameters[name].partners) == writers - {name}
    assert {report.parameters[name].verdict for name in ("q.weight", "k.weight", "gate.weight", "head.weight")} == {
        "variant"
    }


def test_a_reason_names_the_rows_of_a_partner() -> None:
    """As in Swin-V2: queries have a bias, keys have none, both are normalized per head."""

    def scores(m: Any, x: Tensor) -> Tensor:
        bias = torch.cat([m.q_bias, torch.zeros(6)])
        q, k = F.linear(x, m.qk, bias).chunk(2, -1)
        return rms(heads(q, 2)) @ rms(heads(k, 2)).transpose(-1, -2)

    report = autogroup.analyze(Net(scores, qk=parameter(12, 6), q_bias=parameter(6)), (TOKENS,))
    bias, weight = report.parameters["q_bias"], report.parameters["qk"]
    assert (bias.verdict, bias.partners, str(bias.partition)) == ("joint", ("qk",), "(g c) -> g  g=2")
    assert bias.reason.startswith("only together with qk[0:6]; alone: ")
    assert (weight.verdict, weight.rows) == ("partial", ((6, 12),))


def test_buffers_that_stay_zero_count_as_zero() -> None:
    class Layer(nn.Module):
        offset: Tensor

        def __init__(self, *, persistent: bool, value: float = 0.0) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4, bias=False)
            self.register_buffer("offset", torch.full((4,), value), persistent=persistent)

        def forward(self, x: Tensor) -> Tensor:
            return rms(self.fc(x) + self.offset)

    class Counting(Layer):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            self.offset[:2].add_(1.0)
            return out

    report = autogroup.analyze(Layer(persistent=False), (TOKENS,))
    assert report.parameters["fc.weight"].verdict == "invariant"
    assert "taken as the zeros that the model's code puts there: offset" in report.capture["notes"]
    others = (Layer(persistent=True), Layer(persistent=False, value=1.0), Counting(persistent=False))
    for model in (*others, Layer(persistent=False).to("meta")):
        assert autogroup.analyze(model, (TOKENS,)).parameters["fc.weight"].verdict == "variant"


def test_what_is_found_survives_json() -> None:
    for name in ("fused_qkv", "pre_norm_transformer", "depthwise_then_layer_norm"):
        _, _, report = analyzed(name)
        again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
        assert again == report
        assert [str(s) for s in again.symmetries] == [str(s) for s in report.symmetries]
        assert [p.splits for p in again.parameters.values()] == [p.splits for p in report.parameters.values()]
        assert any(p.splits or p.partners for p in again.parameters.values())
