"""Splits: small networks with every usual way to fuse matrices, and real ones, each with the exact rows."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autogroup.capture import capture
from autogroup.infer.splits import splits
from autogroup.report import Split
from tests.autogroup.netkit import Net, conv, linear, parameter

H, D, W = 2, 4, 6
"""Heads, features of a head, width of the input."""
TOKENS = torch.zeros(3, 5, W)
IMAGE = torch.zeros(2, 2, 8, 8)
SDPA = "scaled_dot_product_attention"

Told = tuple[tuple[tuple[int, int], ...], str, int]


def of(model: nn.Module, *inputs: Any, **kwargs: Any) -> dict[str, tuple[Split, ...]]:
    return splits(capture(model, inputs, kwargs))


def told(found: tuple[Split, ...]) -> list[Told]:
    return [(split.rows, split.consumer, split.matrices) for split in found]


def parts(*consumers: str, matrices: int = H, size: int = H * D) -> list[Told]:
    """Consecutive pieces of one size."""
    return [(((i * size, (i + 1) * size),), consumer, matrices) for i, consumer in enumerate(consumers)]


def every(size: int, pieces: int, *consumers: str, matrices: int = H) -> list[Told]:
    """Pieces of each head, side by side: head after head holds one row block per consumer."""
    step = size * len(consumers)
    return [
        (tuple((p * step + i * size, p * step + (i + 1) * size) for p in range(pieces)), consumer, matrices)
        for i, consumer in enumerate(consumers)
    ]


QKV = (f"{SDPA}.query", f"{SDPA}.key", f"{SDPA}.value")
BY_HAND = ("matmul.self", "matmul.other", "matmul.other")


def heads(x: Tensor) -> Tensor:
    """[b, n, (h d)] -> [b, h, n, d]."""
    return x.unflatten(-1, (-1, D)).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    """[b, h, n, d] -> [b, n, (h d)]."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return join((q @ k.mT * D**-0.5).softmax(-1) @ v)


def fused(forward, rows: int = 3 * H * D, bias: bool = False) -> Net:
    return Net(forward, qkv=linear(W, rows, bias))


# --- rotary embeddings -------------------------------------------------------------------------------------------

ANGLES = torch.linspace(0.1, 2.0, 5 * D // 2).view(5, D // 2)


def turn_halves(x: Tensor) -> Tensor:
    cos, sin = torch.cat([ANGLES.cos()] * 2, -1), torch.cat([ANGLES.sin()] * 2, -1)
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def turn_each_half(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * ANGLES.cos() - b * ANGLES.sin(), b * ANGLES.cos() + a * ANGLES.sin()], -1)


def turn_pairs(x: Tensor) -> Tensor:
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * ANGLES.cos() - b * ANGLES.sin(), a * ANGLES.sin() + b * ANGLES.cos()], -1).flatten(-2)


def turn_complex(x: Tensor) -> Tensor:
    turn = torch.polar(torch.ones_like(ANGLES), ANGLES)
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)


def turn_a_part(x: Tensor) -> Tensor:
    a, b = x[..., :2].unbind(-1)
    turned = torch.stack([a * ANGLES[:, 0].cos() - b * ANGLES[:, 0].sin(), a + b], -1)
    return torch.cat([turned, x[..., 2:]], -1)


TURNS = (turn_halves, turn_each_half, turn_pairs, turn_complex, turn_a_part)


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.__name__)
def test_a_rotation_mixes_rows_of_one_head(turn) -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).chunk(3, -1)
        return attend(turn(heads(q)), turn(heads(k)), heads(v))

    assert told(of(fused(forward), TOKENS)["qkv.weight"]) == parts(*BY_HAND)


# --- fused queries, keys and values --------------------------------------------------------------------------------


def test_kind_after_kind() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).view(3, 5, 3, H, D).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)

    found = of(fused(forward, bias=True), TOKENS)
    assert told(found["qkv.weight"]) == told(found["qkv.bias"]) == parts(*QKV)
    assert {split.dim for split in found["qkv.weight"]} == {0}


def test_head_after_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).view(3, 5, H, 3 * D).transpose(1, 2).chunk(3, -1)
        return attend(q, k, v)

    assert told(of(fused(forward), TOKENS)["qkv.weight"]) == every(D, H, *BY_HAND)


def test_grouped_queries_of_unequal_size() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).split([4 * D, 2 * D, 2 * D], -1)
        k, v = (heads(t)[:, :, None].expand(3, 2, 2, 5, D).reshape(3, 4, 5, D) for t in (k, v))
        return F.scaled_dot_product_attention(heads(q), k, v)

    assert told(of(fused(forward, 8 * D), TOKENS)["qkv.weight"]) == [
        (((0, 16),), QKV[0], 4),
        (((16, 24),), QKV[1], 2),
        (((24, 32),), QKV[2], 2),
    ]


def test_queries_grouped_with_their_key_and_value() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        mixed = m.qkv(x).view(3, 5, 2, 4, D)
        q, k, v = mixed[..., :-2, :].flatten(2, 3), mixed[:, :, :, [-2]], mixed[:, :, :, [-1]]
        q, k, v = (t.expand(3, 5, 2, 2, D).flatten(2, 3) if t.dim() == 5 else t for t in (q, k, v))
        return F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))

    assert told(of(fused(forward, 2 * 4 * D), TOKENS)["qkv.weight"]) == [
        (((0, 8), (16, 24)), QKV[0], 4),
        (((8, 12), (24, 28)), QKV[1], 2),
        (((12, 16), (28, 32)), QKV[2], 2),
    ]


def test_one_key_and_value_for_all_queries() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = m.qkv(x).split([2 * D, D, D], -1)
        return attend(heads(q), heads(k), heads(v))

    assert told(of(fused(forward, 4 * D), TOKENS)["qkv.weight"]) == [
        (((0, 8),), BY_HAND[0], 2),
        (((8, 12),), BY_HAND[1], 1),
        (((12, 16),), BY_HAND[2], 1),
    ]


def test_weights_with_the_output_last() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        out = torch.addmm(m.bias, x.view(-1, W), m.weight).view(3, 5, -1)
        return attend(*(heads(t) for t in out.split(H * D, -1)))

    found = of(Net(forward, weight=parameter(W, 3 * H * D), bias=parameter(3 * H * D)), TOKENS)
    assert told(found["weight"]) == told(found["bias"]) == parts(*BY_HAND)
    assert [split.dim for split in found["weight"]] == [1, 1, 1]
    assert [split.dim for split in found["bias"]] == [0, 0, 0]


def test_heads_folded_into_the_batch() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(t).flatten(0, 1) for t in m.qkv(x).chunk(3, -1))
        return torch.bmm(torch.baddbmm(torch.zeros(6, 5, 5), q, k.mT).softmax(-1), v)

    assert told(of(fused(forward), TOKENS)["qkv.weight"]) == parts("baddbmm.batch1", "baddbmm.batch2", "bmm.mat2")


def test_contracted_by_einsum() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = torch.einsum("...i,oi->...o", x, m.weight).unflatten(-1, (3, H, D)).unbind(2)
        weights = torch.einsum("bnhd,bmhd->bhnm", q, k).softmax(-1)
        return torch.einsum("bhnm,bmhd->bnhd", weights, v)

    found = of(Net(forward, weight=parameter(3 * H * D, W)), TOKENS)
    assert told(found["weight"]) == parts(*["einsum.tensors"] * 3)


def test_norms_of_queries_and_keys_are_looked_through() -> None:
    def by_hand(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(t) for t in m.qkv(x).chunk(3, -1))
        return attend(turn_halves(by_hand(q) * m.gain), m.norm(k), v)

    found = of(Net(forward, qkv=linear(W, 3 * H * D), gain=parameter(D), norm=nn.LayerNorm(D)), TOKENS)
    assert told(found["qkv.weight"]) == parts(*BY_HAND)
    assert found["gain"] == found["norm.weight"] == ()


def test_bias_that_is_put_together() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        bias = torch.cat([m.q_bias, torch.zeros_like(m.v_bias), m.v_bias])
        q, k, v = F.linear(x, m.qkv, bias).view(3, 5, 3, H, D).permute(2, 0, 3, 1, 4)
        return attend(q, k, v)

    found = of(Net(forward, qkv=parameter(24, W), q_bias=parameter(8), v_bias=parameter(8)), TOKENS)
    assert told(found["qkv"]) == parts(*BY_HAND)
    assert told(found["q_bias"]) == [(((0, 8),), "matmul.self", H)]
    assert told(found["v_bias"]) == [(((0, 8),), "matmul.other", H)]


@pytest.mark.parametrize("adapted", [False, True])
def test_low_rank_adapter(adapted: bool) -> None:
    """The adapter's second factor is fused just as the weight that it adapts."""

    def forward(m: Net, x: Tensor) -> Tensor:
        out = m.qkv(x) + m.up(m.down(x)) * 0.5 if adapted else m.qkv(x)
        return attend(*(heads(t) for t in out.chunk(3, -1)))

    found = of(Net(forward, qkv=linear(W, 24), down=linear(W, 2), up=linear(2, 24)), TOKENS)
    assert told(found["qkv.weight"]) == parts(*BY_HAND)
    assert told(found["up.weight"]) == (parts(*BY_HAND) if adapted else [])
    assert found["down.weight"] == ()


# --- the weight itself is cut --------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_torch_attention_on_itself(need_weights: bool) -> None:
    model = Net(
        lambda m, x: m.attn(x, x, x, need_weights=need_weights)[0], attn=nn.MultiheadAttention(8, H, batch_first=True)
    )
    found = of(model, torch.zeros(3, 5, 8))
    consumers = ("bmm.self", "bmm.mat2", "bmm.mat2") if need_weights else QKV
    assert told(found["attn.in_proj_weight"]) == told(found["attn.in_proj_bias"]) == parts(*consumers, size=8)
    assert found["attn.out_proj.weight"] == ()


def test_torch_attention_on_another_sequence() -> None:
    model = Net(
        lambda m, x, y: m.attn(x, y, y, need_weights=False)[0], attn=nn.MultiheadAttention(8, H, batch_first=True)
    )
    found = of(model, torch.zeros(3, 5, 8), torch.zeros(3, 7, 8))
    assert told(found["attn.in_proj_weight"]) == parts(*QKV, size=8)


def test_sliced_viewed_and_indexed_weights() -> None:
    def sliced(m: Net, x: Tensor) -> Tensor:
        return attend(*(heads(F.linear(x, w)) for w in (m.w[:8], m.w[8:16], m.w[16:])))

    def viewed(m: Net, x: Tensor) -> Tensor:
        return attend(*(torch.einsum("bni,hdi->bhnd", x, w) for w in m.w.view(H, 3, D, W).unbind(1)))

    def stacked(m: Net, x: Tensor) -> Tensor:
        return attend(*(heads(F.linear(x, m.w[i])) for i in range(3)))

    assert told(of(Net(sliced, w=parameter(24, W)), TOKENS)["w"]) == parts(*BY_HAND)
    assert told(of(Net(viewed, w=parameter(24, W)), TOKENS)["w"]) == every(D, H, *BY_HAND)
    assert told(of(Net(stacked, w=parameter(3, 8, W)), TOKENS)["w"]) == parts(*BY_HAND, size=1)


# --- gates, experts, state spaces ----------------------------------------------------------------------------------


def test_gate_is_named_by_its_activation() -> None:
    def chunked(m: Net, x: Tensor) -> Tensor:
        gate, up = m.fused(x).chunk(2, -1)
        return m.down(F.silu(gate) * up)

    def quick(m: Net, x: Tensor) -> Tensor:
        up, gate = m.fused(x).chunk(2, -1)
        return m.down(up * (gate * torch.sigmoid(1.7 * gate)))

    layers = {"fused": linear(W, 8, True), "down": linear(4, W)}
    found = of(Net(chunked, **layers), TOKENS)
    assert (
        told(found["fused.weight"]) == told(found["fused.bias"]) == parts("silu.self", "mul.other", matrices=1, size=4)
    )
    assert found["down.weight"] == ()
    assert told(of(Net(quick, **layers), TOKENS)["fused.weight"]) == parts(
        "mul.self", "sigmoid.self", matrices=1, size=4
    )


def test_gate_and_value_row_by_row() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        out = m.fused(x)
        return torch.sigmoid(out[..., ::2]) * (out[..., 1::2].clamp(-7, 7) + 1)

    assert told(of(Net(forward, fused=linear(W, 6)), TOKENS)["fused.weight"]) == [
        (((0, 1), (2, 3), (4, 5)), "sigmoid.self", 1),
        (((1, 2), (3, 4), (5, 6)), "mul.other", 1),
    ]


def test_glu_operator_along_any_dim() -> None:
    last = nn.Sequential(nn.Linear(W, 8), nn.GLU())
    assert told(of(last, TOKENS)["0.weight"]) == parts("glu.self", "glu.self", matrices=1, size=4)
    channel = nn.Sequential(conv(2, 8, 3), nn.GLU(1), conv(4, 1))
    found = of(channel, torch.zeros(2, 2, 6, 6))
    assert told(found["0.weight"]) == parts("glu.self", "glu.self", matrices=1, size=4)
    assert found["2.weight"] == ()


E_ = 3
"""Experts."""


def by_bmm(m: Net, x: Tensor) -> Tensor:
    gate, up = torch.bmm(x.view(1, -1, W).expand(E_, -1, -1), m.gate_up).chunk(2, -1)
    return torch.bmm(F.silu(gate) * up, m.down).sum(0)


def by_einsum(m: Net, x: Tensor) -> Tensor:
    gate, up = torch.einsum("bni,eio->ebno", x, m.gate_up).chunk(2, -1)
    return torch.einsum("ebno,eoi->ebni", F.silu(gate) * up, m.down).sum(0)


def in_a_loop(m: Net, x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for e in range(E_):
        gate, up = (x @ m.gate_up[e]).chunk(2, -1)
        total = total + (F.silu(gate) * up) @ m.down[e]
    return total


@pytest.mark.parametrize("forward", [by_bmm, by_einsum, in_a_loop], ids=lambda f: f.__name__)
def test_experts(forward) -> None:
    found = of(Net(forward, gate_up=parameter(E_, W, 8), down=parameter(E_, 4, W)), TOKENS)
    assert told(found["gate_up"]) == parts("silu.self", "mul.other", matrices=E_, size=4)
    assert {split.dim for split in found["gate_up"]} == {2}
    (down,) = found["down"]
    assert (down.dim, down.rows, down.matrices) == (0, ((0, E_),), E_)


def test_experts_that_are_picked_by_a_router() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        best = m.router(x.view(-1, W)).argmax(-1)
        gate, up = torch.bmm(m.gate_up[best], x.view(-1, W, 1)).squeeze(-1).chunk(2, -1)
        return (F.silu(gate) * up).sum()

    found = of(Net(forward, router=linear(W, E_), gate_up=parameter(E_, 8, W)), TOKENS)
    assert told(found["gate_up"]) == parts("silu.self", "mul.other", matrices=E_, size=4)
    assert {split.dim for split in found["gate_up"]} == {1}


def test_unequal_slices_of_a_state_space_layer() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        u, z = m.in_proj(x).chunk(2, -1)
        u = F.silu(m.conv(u.mT)[..., :5].mT)
        dt, b, c = m.x_proj(u).split([2, 3, 3], -1)
        state = (F.softplus(m.dt_proj(dt)).unsqueeze(-1) * b.unsqueeze(2) * u.unsqueeze(-1)).cumsum(1)
        return m.out_proj((state @ c.unsqueeze(-1)).squeeze(-1) * F.silu(z))

    layers = {"in_proj": linear(W, 16), "x_proj": linear(8, 8), "dt_proj": linear(2, 8, True), "out_proj": linear(8, W)}
    found = of(Net(forward, **layers, conv=nn.Conv1d(8, 8, 4, padding=3, groups=8)), TOKENS)
    assert told(found["in_proj.weight"]) == parts("conv1d.input", "silu.self", matrices=1, size=8)
    assert found["in_proj.weight"][0].module == "conv"
    assert [(rows, consumer) for rows, consumer, _ in told(found["x_proj.weight"])] == [
        (((0, 2),), "linear.input"),
        (((2, 5),), "cumsum.self"),
        (((5, 8),), "matmul.other"),
    ]
    assert found["dt_proj.weight"] == found["out_proj.weight"] == found["conv.weight"] == ()


# --- heads of unfused weights, and weights that are one matrix -------------------------------------------------------


def test_heads_of_separate_projections() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return m.o(attend(heads(m.q(x)), heads(m.k(x)), heads(m.v(x))))

    layers = {name: linear(W, 8) for name in "qkv"}
    found = of(Net(forward, **layers, o=linear(8, W)), TOKENS)
    assert [told(found[f"{name}.weight"]) for name in "qkv"] == [[(((0, 8),), consumer, H)] for consumer in BY_HAND]
    assert found["o.weight"] == ()


def test_one_weight_per_head() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        return attend(*(torch.einsum("bni,ihd->bhnd", x, w) for w in (m.q, m.k, m.v)))

    (split,) = of(Net(forward, **{name: parameter(W, H, D) for name in "qkv"}), TOKENS)["q"]
    assert (split.dim, split.rows, split.matrices) == (1, ((0, H),), H)


def test_heads_that_are_not_consecutive_rows_are_not_counted() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (D, H)).permute(0, 3, 1, 2) for t in m.qkv(x).chunk(3, -1))
        return attend(q, k, v)

    assert told(of(fused(forward), TOKENS)["qkv.weight"]) == parts(*BY_HAND, matrices=1)


def test_latent_attention() -> None:
    """Compressed keys and values, and a part of the key that all heads share."""

    def forward(m: Net, x: Tensor) -> Tensor:
        latent, shared = m.down(x).split([6, 2], -1)
        k, v = m.up(m.norm(latent)).unflatten(-1, (H, 2 * D)).transpose(1, 2).chunk(2, -1)
        k = torch.cat([k, shared.unsqueeze(1).expand(-1, H, -1, -1)], -1)
        return F.scaled_dot_product_attention(m.q(x).unflatten(-1, (H, D + 2)).transpose(1, 2), k, v)

    layers = {"down": linear(W, 8), "up": linear(6, 2 * H * D), "q": linear(W, H * (D + 2)), "norm": nn.LayerNorm(6)}
    found = of(Net(forward, **layers), TOKENS)
    assert told(found["down.weight"]) == [(((0, 6),), "linear.input", 1), (((6, 8),), QKV[1], 1)]
    assert told(found["up.weight"]) == every(D, H, *QKV[1:])


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        first, second = x.chunk(2, -1)
        return first.exp() * second


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nn.Sequential(nn.Linear(W, 8), nn.GELU(), nn.Linear(8, 2)), TOKENS),
        (nn.Sequential(conv(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), conv(4, 4, 3, groups=4)), IMAGE),
        (nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 7)), torch.zeros(2, 3, dtype=torch.long)),
        (nn.LSTM(W, 4), TOKENS),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(W, 4)), nn.Tanh()), TOKENS),
        (nn.Sequential(nn.ConvTranspose2d(2, 4, 2), nn.AdaptiveAvgPool2d(1)), IMAGE),
    ],
    ids=["mlp", "convolutions", "embedding", "lstm", "weight norm", "transposed"],
)  # fmt: skip
def test_never_split(model: nn.Module, inputs: Tensor) -> None:
    found = of(model, inputs)
    assert found
    assert {name: split for name, split in found.items() if split} == {}


def test_what_happens_to_a_residual_stream_is_no_matter_of_the_weights_that_write_to_it() -> None:
    found = of(Residual(*(nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8)) for _ in range(3))), torch.zeros(2, 8))
    assert set(found.values()) == {()}


def test_feature_maps_side_by_side_are_no_fused_weight() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        both = torch.cat([m.a(x), m.b(x)], 1)
        first, second = both.unflatten(1, (4, 2)).transpose(1, 2).flatten(1, 2).chunk(2, 1)
        return m.c(first) + second

    found = of(Net(forward, a=conv(2, 4), b=conv(2, 4), c=conv(4, 4)), torch.zeros(2, 2, 5, 5))
    assert set(found.values()) == {()}


def test_tables_and_tokens_are_no_matrices() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        x = torch.cat([m.token.expand(3, -1, -1), x], 1) + m.positions
        return m.head(x[:, 0]) + x[:, 1:].mean(1)

    found = of(Net(forward, token=parameter(1, 1, W), positions=parameter(1, 6, W), head=linear(W, W)), TOKENS)
    assert set(found.values()) == {()}


def test_rows_that_nobody_reads_are_left_out() -> None:
    found = of(Net(lambda m, x: F.relu(m.fc(x)[..., :4]), fc=linear(W, 6)), TOKENS)
    assert told(found["fc.weight"]) == [(((0, 4),), "output", 1)]


def test_outputs_are_consumers() -> None:
    def forward(m: Net, x: Tensor) -> Any:
        out = m.fc(x)
        return out[..., :4], out[..., 4:]

    assert told(of(Net(forward, fc=linear(W, 5)), TOKENS)["fc.weight"]) == [
        (((0, 4),), "output", 1),
        (((4, 5),), "output", 1),
    ]


def test_writes_in_place_end_the_walk() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        out = m.fc(x).relu_()
        both = torch.zeros(3, 5, 8)
        both[..., :4] = out[..., 4:]
        both[..., 4:] = out[..., :4]
        return both

    assert told(of(Net(forward, fc=linear(W, 8)), TOKENS)["fc.weight"]) == [
        (((0, 4),), "copy.src", 1),
        (((4, 8),), "copy.src", 1),
    ]


def test_operators_without_a_rule_end_the_walk() -> None:
    def forward(m: Net, x: Tensor) -> Tensor:
        a, b = m.fc(x).chunk(2, -1)
        return torch.fft.rfft(a).abs().sum() + b.relu().sum()

    assert told(of(Net(forward, fc=linear(W, 8)), TOKENS)["fc.weight"]) == [
        (((0, 4),), "fft_rfft.self", 1),
        (((4, 8),), "sum.self", 1),
    ]


def test_a_failing_rule_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> Any:
        raise ValueError("sizes are assumed")

    monkeypatch.setattr("autogroup.infer.splits.walk.weight_layout", fail)
    assert of(nn.Sequential(nn.Linear(W, 8), nn.GLU()), TOKENS) == {"0.weight": (), "0.bias": ()}


# --- real models ----------------------------------------------------------------------------------------------------


def real(kind: str, name: str) -> dict[str, tuple[Split, ...]]:
    pytest.importorskip({"timm": "timm", "hf": "transformers"}[kind], reason="the model comes from this library")
    from tests.zoo.build import build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, args, kwargs = build(kind, name)
        return of(model, *args, **kwargs)


REAL: dict[tuple[str, str], dict[str, list[Told]]] = {
    ("timm", "vit_tiny_patch16_224"): {
        "blocks.0.attn.qkv.weight": parts(*QKV, matrices=3, size=192),
        "blocks.11.attn.qkv.bias": parts(*QKV, matrices=3, size=192),
        "blocks.0.attn.proj.weight": [],
        "blocks.0.mlp.fc1.weight": [],
        "patch_embed.proj.weight": [],
        "head.weight": [],
    },
    ("timm", "swinv2_tiny_window8_256"): {
        "layers.0.blocks.0.attn.qkv.weight": parts(*BY_HAND, matrices=3, size=96),
        "layers.3.blocks.1.attn.qkv.weight": parts(*BY_HAND, matrices=24, size=768),
        "layers.0.blocks.0.attn.q_bias": [(((0, 96),), "matmul.self", 3)],
        "layers.1.downsample.reduction.weight": [],
    },
    ("timm", "eva02_tiny_patch14_224"): {
        "blocks.0.attn.qkv.weight": parts(*QKV, matrices=3, size=192),
        "blocks.0.mlp.fc1.weight": parts("silu.self", "mul.other", matrices=1, size=512),
        "blocks.0.mlp.fc1.bias": parts("silu.self", "mul.other", matrices=1, size=512),
    },
    ("hf", "text:GPT2"): {
        "transformer.h.0.attn.c_attn.weight": parts(*BY_HAND, matrices=4, size=32),
        "transformer.h.0.attn.c_proj.weight": [],
        "transformer.wte.weight": [],
    },
    ("hf", "text:Phi3"): {
        "model.layers.0.self_attn.qkv_proj.weight": [
            (((0, 32),), "matmul.self", 4),
            (((32, 48),), "matmul.other", 2),
            (((48, 64),), "matmul.other", 2),
        ],
        "model.layers.0.mlp.gate_up_proj.weight": parts("silu.self", "mul.self", matrices=1, size=64),
    },
    ("hf", "text:Persimmon"): {
        "model.layers.0.self_attn.query_key_value.weight": every(8, 4, *BY_HAND, matrices=4),
        "model.layers.0.self_attn.query_key_value.bias": every(8, 4, *BY_HAND, matrices=4),
    },
    ("hf", "text:Falcon"): {
        "transformer.h.0.self_attention.query_key_value.weight": [
            (((0, 32),), "matmul.self", 4),
            (((32, 40),), "matmul.other", 1),
            (((40, 48),), "matmul.other", 1),
        ],
    },
    ("hf", "text:Mixtral"): {
        "model.layers.0.self_attn.q_proj.weight": [(((0, 32),), "matmul.self", 4)],
        "model.layers.0.self_attn.k_proj.weight": [(((0, 16),), "matmul.other", 2)],
        "model.layers.0.mlp.gate.weight": [],
        "model.layers.0.mlp.experts.gate_up_proj": parts("silu.self", "mul.other", matrices=4, size=64),
        "model.layers.0.mlp.experts.down_proj": [(((0, 4),), "index_add.source", 4)],
    },
    ("hf", "text:Mamba"): {
        "backbone.layers.0.mixer.in_proj.weight": parts("conv1d.input", "silu.self", matrices=1, size=64),
        "backbone.layers.0.mixer.x_proj.weight": [
            (((0, 2),), "matmul.other", 1),
            (((2, 6),), "add.other", 1),
            (((6, 10),), "matmul.other", 1),
        ],
        "backbone.layers.0.mixer.out_proj.weight": [],
    },
}


@pytest.mark.parametrize(("kind", "name"), REAL, ids=[name for _, name in REAL])
def test_real_models(kind: str, name: str) -> None:
    found = real(kind, name)
    expected = REAL[kind, name]
    assert {parameter: told(found[parameter]) for parameter in expected} == expected
