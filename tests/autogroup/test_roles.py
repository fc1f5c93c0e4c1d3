"""Roles: one small network per way to write a layer, with the role of every parameter, and real models."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autogroup.capture import capture
from autogroup.infer.roles import roles
from tests.autogroup.netkit import Net, conv, linear, parameter

TOKENS, IMAGE, IDS = torch.zeros(2, 5, 6), torch.zeros(2, 2, 8, 8), torch.zeros(2, 5, dtype=torch.long)
LAST = {"fc.weight": "head"}
"""A layer after the one in question, so that that one is no head."""


@dataclass(frozen=True)
class Case:
    """A network and the roles of its parameters, the leading one first, separated by spaces."""

    name: str
    model: nn.Module
    inputs: Tensor
    expected: dict[str, str]

    def __str__(self) -> str:
        return self.name


def of(model: nn.Module, *args: Any, **kwargs: Any) -> dict[str, str]:
    return {name: " ".join(found) for name, found in roles(capture(model, args, kwargs)).items()}


def gained(normalized, shift: bool = False, *shape: int) -> Net:
    """A hand-written norm of the last dim with a gain, and a layer behind it."""

    def forward(m: Net, x: Tensor) -> Tensor:
        y = normalized(x) * m.gain
        return m.fc(y + m.shift if shift else y)

    extra = {"shift": parameter(*(shape or (6,)))} if shift else {}
    return Net(forward, gain=parameter(*(shape or (6,))), fc=linear(6, 2), **extra)


def centered(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


GAIN = {"gain": "norm_scale", **LAST}
SHIFTED = {"gain": "norm_scale", "shift": "norm_shift", **LAST}

NORMALIZED = {
    "rsqrt of the mean square": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "divided by a root": lambda x: centered(x) / torch.sqrt(centered(x).square().mean(-1, keepdim=True) + 1e-6),
    "divided by the deviation": lambda x: centered(x) / (x.std(-1, keepdim=True) + 1e-6),
    "power of the mean square": lambda x: x * torch.pow(x.pow(2).mean(-1, keepdim=True) + 1e-6, -0.5),
    "one over a root": lambda x: x * (1 / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()),
    "mean of squares minus square of mean": lambda x: (
        centered(x) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) - x.mean(-1, keepdim=True) ** 2 + 1e-6)
    ),
    "from var_mean": lambda x: (
        (x - torch.var_mean(x, -1, keepdim=True)[1]) * torch.rsqrt(torch.var_mean(x, -1, keepdim=True)[0] + 1e-6)
    ),
    "a unit vector": lambda x: F.normalize(x, dim=-1),
    "norm times a number": lambda x: x / (x.norm(dim=-1, keepdim=True) * 6**-0.5).clamp(min=1e-6),
    "cast there and back": lambda x: (x.double() * torch.rsqrt(x.double().pow(2).mean(-1, keepdim=True))).type_as(x),
    "operator without gain": lambda x: F.layer_norm(x, (6,)),
    "moved about": lambda x: F.layer_norm(x, (6,)).view(10, 6).unsqueeze(0).reshape(2, 5, 6),
}


def one_plus(m: Net, x: Tensor) -> Tensor:
    y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
    return m.fc((y * (1.0 + m.gain.float())).type_as(x))


def per_head(m: Net, x: Tensor) -> Tensor:
    q, k = (t.unflatten(-1, (2, 3)) for t in (m.q(x), m.k(x)))
    q, k = F.normalize(q, dim=-1) * m.q_gain, F.normalize(k, dim=-1) * m.k_gain
    return m.fc((q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * m.temperature).flatten(1))


def channels_first(m: Net, x: Tensor) -> Tensor:
    y = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-6).sqrt()
    return m.conv(m.gain[:, None, None] * y + m.shift[:, None, None]).exp()


def folded(m: Net, x: Tensor) -> Tensor:
    """The gain is multiplied into the divisor."""
    return m.fc(x * (m.gain * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)))


def fused_affine(m: Net, x: Tensor) -> Tensor:
    return m.fc(torch.addcmul(m.shift, F.layer_norm(x, (6,)), m.gain))


def scaled_branch(m: Net, x: Tensor) -> Tensor:
    return m.fc(x + m.scale * m.inner(m.norm(x)) + m.after * m.norm(x))


def by_hand(m: Net, x: Tensor) -> Tensor:
    return m.fc(F.dropout(x @ m.weight, 0.1) + m.bias)


def with_tokens(m: Net, x: Tensor) -> Tensor:
    x = m.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([m.token.expand(2, -1, -1), x], 1) + m.positions
    return m.fc(m.norm(x)[:, 0])


def relative(m: Net, x: Tensor) -> Tensor:
    bias = m.table[torch.arange(25).view(-1) % 9].view(5, 5, 2).permute(2, 0, 1)
    scores = (x @ x.mT).unsqueeze(1) + bias
    return m.fc((scores + m.direct).softmax(-1).mean(1) @ x)


def experts(m: Net, x: Tensor) -> Tensor:
    best = m.router(x.view(-1, 6)).argmax(-1)
    y = torch.bmm(m.up[best], x.view(-1, 6, 1)).squeeze(-1) + m.up_bias[best]
    z = torch.bmm(y.expand(3, -1, -1), m.down) + m.down_bias[:, None]
    return m.fc(z.sum(0))


def standardized(m: Net, x: Tensor) -> Tensor:
    w = m.weight - m.weight.mean((1, 2, 3), keepdim=True)
    w = w / (w.std((1, 2, 3), keepdim=True) + 1e-6) * m.gain
    return m.last(F.conv2d(x, w, m.bias))


def as_batch_norm(m: Net, x: Tensor) -> Tensor:
    w = F.batch_norm(m.weight.reshape(1, 3, -1), None, None, m.gain.view(-1), None, True)
    return m.last(F.conv2d(x, w.reshape_as(m.weight)))


def tied(m: Net, x: Tensor) -> Tensor:
    return F.linear(m.norm(m.table(x)), m.table.weight) + m.bias


def cosine_head(m: Net, x: Tensor) -> Tensor:
    return F.linear(F.normalize(m.fc(x), dim=-1), F.normalize(m.weight, dim=-1)) * m.temperature.exp()


def twice(m: Net, x: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.linear(x, m.weight)), m.weight)


def interpolated(m: Net, x: Tensor) -> Tensor:
    y = m.norm(x)
    return m.fc(y * m.mix + y.roll(1, 1) * (1 - m.mix))


CASES = [
    *(Case(f"gain: {name}", gained(f), TOKENS, GAIN) for name, f in NORMALIZED.items()),
    *(Case(f"shift: {name}", gained(f, True), TOKENS, SHIFTED) for name, f in NORMALIZED.items()),
    Case("one plus the gain", Net(one_plus, gain=parameter(6), fc=linear(6, 2)), TOKENS, GAIN),
    Case("gain in the divisor", Net(folded, gain=parameter(6), fc=linear(6, 2)), TOKENS, GAIN),
    Case("addcmul", Net(fused_affine, gain=parameter(6), shift=parameter(6), fc=linear(6, 2)), TOKENS, SHIFTED),
    Case(
        "gains per head, and a temperature",
        Net(
            per_head,
            q=linear(6, 6),
            k=linear(6, 6, True),
            q_gain=parameter(3),
            k_gain=parameter(2, 3),
            temperature=parameter(2, 1, 1),
            fc=linear(50, 2),
        ),
        TOKENS,
        {
            "q.weight": "linear",
            "k.weight": "linear",
            "k.bias": "bias",
            "q_gain": "norm_scale",
            "k_gain": "norm_scale",
            "temperature": "other",
            **LAST,
        },
    ),
    Case(
        "channels first",
        Net(channels_first, gain=parameter(2), shift=parameter(2), conv=conv(2, 3)),
        IMAGE,
        {"gain": "norm_scale", "shift": "norm_shift", "conv.weight": "head"},
    ),
    Case(
        "norms of torch",
        nn.Sequential(
            *(conv(2, 4), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)),
            *(nn.LayerNorm((8, 8)), nn.RMSNorm(8), nn.PReLU(4), nn.Conv2d(4, 1, 1)),
        ),
        IMAGE,
        {
            "0.weight": "conv",
            **{f"{i}.weight": "norm_scale" for i in range(1, 6)},
            **{f"{i}.bias": "norm_shift" for i in range(1, 5)},
            "6.weight": "other",
            "7.weight": "head",
            "7.bias": "bias",
        },
    ),
    Case(
        "the scale of a branch is no gain",
        Net(
            scaled_branch,
            norm=nn.LayerNorm(6),
            inner=linear(6, 6, True),
            scale=parameter(6),
            after=parameter(6),
            fc=linear(6, 2),
        ),
        TOKENS,
        {
            "norm.weight": "norm_scale",
            "norm.bias": "norm_shift",
            "inner.weight": "linear",
            "inner.bias": "bias",
            "scale": "other",
            "after": "other",
            **LAST,
        },
    ),
    Case(
        "product and bias by hand",
        Net(by_hand, weight=parameter(6, 4), bias=parameter(4), fc=linear(4, 2, True)),
        TOKENS,
        {"weight": "linear", "bias": "bias", "fc.weight": "head", "fc.bias": "bias"},
    ),
    Case(
        "tokens and positions",
        Net(
            with_tokens,
            patch=conv(2, 6, 4, stride=4, bias=True),
            token=parameter(1, 1, 6),
            positions=parameter(1, 5, 6),
            norm=nn.LayerNorm(6),
            fc=linear(6, 2),
        ),
        IMAGE,
        {
            "patch.weight": "conv",
            "patch.bias": "bias",
            "token": "other",
            "positions": "other",
            "norm.weight": "norm_scale",
            "norm.bias": "norm_shift",
            **LAST,
        },
    ),
    Case(
        "positions that are looked up",
        Net(
            lambda m, x: m.fc(m.norm(m.words(x) + m.places(torch.arange(5)))),
            words=nn.Embedding(7, 6),
            places=nn.Embedding(5, 6),
            norm=nn.LayerNorm(6, bias=False),
            fc=linear(6, 2),
        ),
        IDS,
        {"words.weight": "embedding", "places.weight": "embedding", "norm.weight": "norm_scale", **LAST},
    ),
    Case(
        "relative positions",
        Net(relative, table=parameter(9, 2), direct=parameter(2, 5, 5), fc=linear(6, 2)),
        TOKENS,
        {"table": "embedding", "direct": "other", **LAST},
    ),
    Case(
        "experts with biases",
        Net(
            experts,
            router=linear(6, 3),
            up=parameter(3, 4, 6),
            up_bias=parameter(3, 4),
            down=parameter(3, 4, 6),
            down_bias=parameter(3, 6),
            fc=linear(6, 2),
        ),
        TOKENS,
        {"router.weight": "linear", "up": "linear", "up_bias": "bias", "down": "linear", "down_bias": "bias", **LAST},
    ),
    Case(
        "standardized weight",
        Net(
            standardized,
            weight=parameter(3, 2, 3, 3),
            gain=parameter(3, 1, 1, 1),
            bias=parameter(3),
            last=conv(3, 1),
        ),
        IMAGE,
        {"weight": "conv", "gain": "norm_scale", "bias": "bias", "last.weight": "head"},
    ),
    Case(
        "weight standardized by batch norm",
        Net(as_batch_norm, weight=parameter(3, 2, 3, 3), gain=parameter(3, 1, 1, 1), last=conv(3, 1)),
        IMAGE,
        {"weight": "conv", "gain": "norm_scale", "last.weight": "head"},
    ),
    Case(
        "weight normalization",
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)), nn.Tanh(), linear(4, 2)),
        TOKENS,
        {
            "0.bias": "bias",
            "0.parametrizations.weight.original0": "norm_scale",
            "0.parametrizations.weight.original1": "linear",
            "2.weight": "head",
        },
    ),
    Case(
        "embedding tied to the head",
        Net(tied, table=nn.Embedding(7, 6), norm=nn.LayerNorm(6), bias=parameter(7)),
        IDS,
        {"table.weight": "embedding head", "norm.weight": "norm_scale", "norm.bias": "norm_shift", "bias": "bias"},
    ),
    Case(
        "head with a temperature",
        Net(cosine_head, fc=linear(6, 4), weight=parameter(2, 4), temperature=parameter(1)),
        TOKENS,
        {"fc.weight": "linear", "weight": "head", "temperature": "other"},
    ),
    Case("one weight twice", Net(twice, weight=parameter(6, 6)), TOKENS, {"weight": "linear head"}),
    Case(
        "two outputs",
        Net(lambda m, x: (m.a(m.fc(x)), m.b(m.fc(x))), fc=linear(6, 4), a=linear(4, 2), b=linear(4, 3)),
        TOKENS,
        {"fc.weight": "linear", "a.weight": "head", "b.weight": "head"},
    ),
    Case(
        "average of two heads",
        Net(lambda m, x: (m.a(x.exp()) + m.b(x.tanh())) / 2, a=linear(6, 2, True), b=linear(6, 2)),
        TOKENS,
        {"a.weight": "head", "a.bias": "bias", "b.weight": "head"},
    ),
    Case(
        "a residual stream as the output",
        Net(lambda m, x: x.tanh() + m.a(x.exp()) + m.b(x.relu()), a=linear(6, 6), b=linear(6, 6, True)),
        TOKENS,
        {"a.weight": "linear", "b.weight": "linear", "b.bias": "bias"},
    ),
    Case(
        "a mixture of a normalized value with another",
        Net(interpolated, norm=nn.LayerNorm(6, bias=False), mix=parameter(6), fc=linear(6, 2)),
        TOKENS,
        {"norm.weight": "norm_scale", "mix": "other", **LAST},
    ),
    Case(
        "recurrent layers",
        Net(lambda m, x: m.fc(m.gru(m.lstm(x)[0])[0]), lstm=nn.LSTM(6, 4), gru=nn.GRU(4, 4), fc=linear(4, 2)),
        TOKENS,
        {
            **{f"{layer}.weight_{part}_l0": "linear" for layer in ("lstm", "gru") for part in ("ih", "hh")},
            **{f"{layer}.bias_{part}_l0": "bias" for layer in ("lstm", "gru") for part in ("ih", "hh")},
            **LAST,
        },
    ),
    Case(
        "attention of torch",
        Net(
            lambda m, x: m.fc(m.attn(x, x, x, need_weights=False)[0]),
            attn=nn.MultiheadAttention(6, 2, batch_first=True),
            fc=linear(6, 2),
        ),
        TOKENS,
        {
            "attn.in_proj_weight": "linear",
            "attn.in_proj_bias": "bias",
            "attn.out_proj.weight": "linear",
            "attn.out_proj.bias": "bias",
            **LAST,
        },
    ),
    Case(
        "not used", Net(lambda m, x: m.fc(x), spare=parameter(3), fc=linear(6, 2)), TOKENS, {"spare": "other", **LAST}
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_parameter_has_its_role(case: Case) -> None:
    assert of(case.model, case.inputs) == case.expected


REAL = {
    ("tv", "resnet18"): {
        "conv1.weight": "conv",
        "bn1.weight": "norm_scale",
        "bn1.bias": "norm_shift",
        "fc.weight": "head",
        "fc.bias": "bias",
    },
    ("tv", "swin_v2_t"): {
        "features.1.0.attn.logit_scale": "other",
        "features.1.0.attn.cpb_mlp.0.weight": "linear",
        "features.1.0.attn.qkv.bias": "bias",
        "head.weight": "head",
    },
    ("timm", "vit_tiny_patch16_224"): {
        "cls_token": "other",
        "pos_embed": "other",
        "patch_embed.proj.weight": "conv",
        "blocks.0.norm1.weight": "norm_scale",
        "head.weight": "head",
    },
    ("timm", "test_nfnet"): {"stem.conv1.weight": "conv", "stem.conv1.gain": "norm_scale", "head.fc.weight": "head"},
    ("hf", "text:GPT2"): {
        "transformer.wte.weight": "embedding head",
        "transformer.wpe.weight": "embedding",
        "transformer.h.0.attn.c_attn.weight": "linear",
        "transformer.h.0.attn.c_attn.bias": "bias",
    },
    ("hf", "seq:T5"): {
        "shared.weight": "embedding head",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": "embedding",
        "encoder.block.0.layer.0.layer_norm.weight": "norm_scale",
    },
    ("hf", "text:Gemma3Text"): {
        "layers.0.self_attn.q_norm.weight": "norm_scale",
        "layers.0.post_feedforward_layernorm.weight": "norm_scale",
        "layers.0.mlp.down_proj.weight": "linear",
    },
    ("hf", "text:GptOss"): {
        "model.layers.0.self_attn.sinks": "other",
        "model.layers.0.mlp.experts.gate_up_proj": "linear",
        "model.layers.0.mlp.experts.gate_up_proj_bias": "bias",
        "lm_head.weight": "head",
    },
    ("hf", "text:Mamba2"): {
        "backbone.layers.0.mixer.A_log": "other",
        "backbone.layers.0.mixer.D": "other",
        "backbone.layers.0.mixer.dt_bias": "bias",
        "backbone.layers.0.mixer.norm.weight": "norm_scale",
        "backbone.layers.0.mixer.conv1d.weight": "conv",
    },
    ("hf", "audio:Wav2Vec2"): {
        "wav2vec2.masked_spec_embed": "other",
        "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0": "norm_scale",
        "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original1": "conv",
        "classifier.weight": "head",
    },
}


@pytest.mark.parametrize(("kind", "name"), REAL, ids=[name for _, name in REAL])
def test_real_models(kind: str, name: str) -> None:
    library = {"tv": "torchvision", "timm": "timm", "hf": "transformers"}[kind]
    pytest.importorskip(library, reason="the model comes from this library")
    from tests.zoo.build import build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, args, kwargs = build(kind, name)
        found = of(model, *args, **kwargs)
    assert {parameter: found[parameter] for parameter in REAL[kind, name]} == REAL[kind, name]
