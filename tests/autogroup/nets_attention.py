"""Small attention layers with the exact answer for each parameter.

Letters: b batch, n positions, h heads, d features of a head. Tokens are [b, n, 6]; two heads of three features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.autogroup.netkit import DEAD, NOT, TOKENS, Case, Net, linear, parameter, per, runs

H, D = 2, 3
ANGLES = torch.linspace(0.1, 2.0, 5 * 2).view(5, 2)


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def heads(x: Tensor, width: int = D) -> Tensor:
    """[b, n, (h d)] -> [b, h, n, d]."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def join(x: Tensor) -> Tensor:
    """[b, h, n, d] -> [b, n, (h d)]."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return join((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v)


def fused_first(m: Net, x: Tensor) -> Tensor:
    """Rows of qkv in the order (3 h d)."""
    q, k, v = m.qkv(x).view(2, 5, 3, H, D).permute(2, 0, 3, 1, 4).unbind(0)
    return attend(rms(q), rms(k), v)


def fused_per_head(m: Net, x: Tensor) -> Tensor:
    """Rows of qkv in the order (h 3 d)."""
    q, k, v = m.qkv(x).view(2, 5, H, 3 * D).transpose(1, 2).chunk(3, -1)
    return attend(rms(q), rms(k), v)


def fused_grouped_queries(m: Net, x: Tensor) -> Tensor:
    """Two query heads share one key head and one value head."""
    q, k, v = m.qkv(x).split([2 * D, D, D], -1)
    k, v = (heads(t).repeat_interleave(2, 1) for t in (k, v))
    return join(F.scaled_dot_product_attention(rms(heads(q)), rms(k), v, is_causal=True))


def swin_v2(m: Net, x: Tensor) -> Tensor:
    """Cosine attention; only the keys have no bias."""
    bias = torch.cat([m.q_bias, torch.zeros_like(m.v_bias), m.v_bias])
    q, k, v = F.linear(x, m.qkv, bias).view(2, 5, 3, H, D).permute(2, 0, 3, 1, 4)
    weights = (unit(q) @ unit(k).mT * m.scale.clamp(max=2.0).exp()).softmax(-1)
    return m.proj(join(weights @ v))


def linear_attention(m: Net, x: Tensor) -> Tensor:
    """Queries and keys cancel against the normalizer, values against the norm behind the projection."""
    q, k, v = (heads(t) for t in m.qkv(x).chunk(3, -1))
    q, k = F.relu(q), F.relu(k)
    top, bottom = q @ (k.mT @ v), q @ k.sum(2).unsqueeze(-1)
    return m.norm(m.proj(join(top / (bottom + 1e-6))))


def padded_linear_attention(m: Net, x: Tensor) -> Tensor:
    """The same with the normalizer as one more column of ones on the values."""
    q, k, v = (heads(t) for t in m.qkv(x).chunk(3, -1))
    out = F.relu(q) @ (F.relu(k).mT @ F.pad(v, (0, 1), value=1.0))
    return m.norm(m.proj(join(out[..., :-1] / (out[..., -1:] + 1e-6))))


def rotate_half(x: Tensor) -> Tensor:
    """Rotary embedding of [b, h, n, 4] written with real numbers."""
    cos, sin = (torch.cat([f(ANGLES), f(ANGLES)], -1).to(x.dtype) for f in (torch.cos, torch.sin))
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def rotate_complex(x: Tensor) -> Tensor:
    """Rotary embedding of [b, h, n, 4] written with complex numbers."""
    turn = torch.polar(torch.ones_like(ANGLES), ANGLES)
    pairs = torch.view_as_complex(x.float().unflatten(-1, (2, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(3).type_as(x)


def rotated(turn) -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        q, k, v = (heads(f(x), 4) for f in (m.q, m.k, m.v))
        return attend(rms(turn(q)), rms(turn(k)), v)

    return Net(forward, q=linear(6, 8), k=linear(6, 8), v=linear(6, 8))


def separate(norm_q, norm_k, mix=attend, bias: bool = False, **parts) -> Net:
    """Attention with three projections and a norm on the heads of queries and keys."""

    def forward(m: Net, x: Tensor) -> Tensor:
        return mix(norm_q(m, heads(m.q(x))), norm_k(m, heads(m.k(x))), heads(m.v(x)))

    return Net(forward, q=linear(6, 6, bias), k=linear(6, 6, bias), v=linear(6, 6, bias), **parts)


def by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("bhnd,bhmd->bhnm", q, k).softmax(-1)
    return torch.einsum("bhnm,bhmd->bnhd", weights, v).flatten(2)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    out = torch.bmm(torch.baddbmm(torch.zeros(4, 5, 5, dtype=q.dtype), q, k.mT).softmax(-1), v)
    return join(out.unflatten(0, (-1, H)))


def by_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return join(F.scaled_dot_product_attention(q, k, v))


def plain(_: Net, x: Tensor) -> Tensor:
    return x


def sandwich(m: Net, x: Tensor) -> Tensor:
    """Norms before and after attention; the residual stream is added outside."""
    y = m.before(x)
    return x + m.after(m.o(attend(*(heads(f(y)) for f in (m.q, m.k, m.v)))))


def full_qk_norm(m: Net, x: Tensor) -> Tensor:
    return attend(heads(m.q_norm(m.q(x))), heads(m.k_norm(m.k(x))), heads(m.v(x)))


def torch_attention(bias: bool) -> Net:
    def forward(m: Net, x: Tensor) -> Tensor:
        return F.layer_norm(m.attn(x, x, x, need_weights=False)[0], (6,))

    return Net(forward, attn=nn.MultiheadAttention(6, 2, bias=bias, batch_first=True))


PER_HEAD = {"q.weight": per(0, groups=H), "k.weight": per(0, groups=H), "v.weight": NOT}

CASES = [
    Case(
        # A bias of the keys adds the same to every score of a query, which softmax removes.
        "attention",
        lambda: separate(plain, plain, bias=True),
        (TOKENS,),
        {
            "q.weight": NOT,
            "q.bias": NOT,
            "k.weight": NOT,
            "k.bias": DEAD,
            "v.weight": NOT,
            "v.bias": NOT,
        },
    ),
    Case("head_norm", lambda: separate(lambda m, x: rms(x), lambda m, x: rms(x)), (TOKENS,), PER_HEAD),
    Case(
        "head_norm_with_shared_gains",
        lambda: separate(lambda m, x: m.qn(x), lambda m, x: m.kn(x), qn=nn.RMSNorm(D), kn=nn.RMSNorm(D)),
        (TOKENS,),
        {**PER_HEAD, "qn.weight": NOT, "kn.weight": NOT},
    ),
    Case(
        "head_layer_norm",
        lambda: separate(lambda m, x: m.qn(x), lambda m, x: m.kn(x), qn=nn.LayerNorm(D), kn=nn.LayerNorm(D)),
        (TOKENS,),
        {**PER_HEAD, "qn.weight": NOT, "qn.bias": NOT, "kn.weight": NOT, "kn.bias": DEAD},
    ),
    Case("head_norm_sdpa", lambda: separate(lambda m, x: rms(x), lambda m, x: rms(x), by_sdpa), (TOKENS,), PER_HEAD),
    Case(
        "head_norm_einsum", lambda: separate(lambda m, x: rms(x), lambda m, x: rms(x), by_einsum), (TOKENS,), PER_HEAD
    ),
    Case("head_norm_bmm", lambda: separate(lambda m, x: rms(x), lambda m, x: rms(x), by_bmm), (TOKENS,), PER_HEAD),
    Case(
        "cosine_attention",
        lambda: separate(lambda m, x: unit(x) * m.scale, lambda m, x: unit(x), scale=parameter(H, 1, 1)),
        (TOKENS,),
        {**PER_HEAD, "scale": NOT},
    ),
    Case(
        "queries_normed_keys_not",
        lambda: separate(lambda m, x: rms(x), plain),
        (TOKENS,),
        {"q.weight": per(0, groups=H), "k.weight": NOT, "v.weight": NOT},
    ),
    Case(
        "head_norm_with_biases",
        lambda: separate(lambda m, x: rms(x), lambda m, x: rms(x), bias=True),
        (TOKENS,),
        {f"{name}.{kind}": NOT for name in "qkv" for kind in ("weight", "bias")},
    ),
    Case(
        "norm_of_the_full_projection",
        lambda: Net(
            full_qk_norm, q=linear(6, 6), k=linear(6, 6), v=linear(6, 6), q_norm=nn.RMSNorm(6), k_norm=nn.RMSNorm(6)
        ),
        (TOKENS,),
        {"q.weight": per(), "k.weight": per(), "v.weight": NOT, "q_norm.weight": NOT, "k_norm.weight": NOT},
    ),
    Case(
        "sandwich_norms",
        lambda: Net(
            sandwich,
            **{name: linear(6, 6) for name in "qkvo"},
            before=nn.RMSNorm(6, elementwise_affine=False),
            after=nn.RMSNorm(6),
        ),
        (TOKENS,),
        {"q.weight": NOT, "k.weight": NOT, "v.weight": per(), "o.weight": per(), "after.weight": NOT},
    ),
    Case(
        # The gain of the first norm scales queries and keys too.
        "gain_before_sandwich",
        lambda: Net(
            lambda m, x: rms(m.o(heads(m.v(m.before(x))).softmax(2).transpose(1, 2).flatten(2))),
            v=linear(6, 6),
            o=linear(6, 6),
            before=nn.RMSNorm(6),
        ),
        (TOKENS,),
        {"v.weight": NOT, "o.weight": per(), "before.weight": NOT},
    ),
    Case(
        "fused_qkv_first",
        lambda: Net(fused_first, qkv=linear(6, 18)),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, 3, -6)},
    ),
    Case(
        "fused_qkv_per_head",
        lambda: Net(fused_per_head, qkv=linear(6, 18)),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, -3, 3, 3, -3)},
    ),
    Case(
        "fused_qkv_grouped_queries",
        lambda: Net(fused_grouped_queries, qkv=linear(6, 12)),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, -3)},
    ),
    Case(
        "fused_qkv_and_a_norm_behind",
        lambda: Net(lambda m, x: rms(m.proj(fused_first(m, x))), qkv=linear(6, 18), proj=linear(6, 6)),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, 3, 6), "proj.weight": per()},
    ),
    Case(
        "swin_v2_attention",
        lambda: Net(
            swin_v2,
            qkv=parameter(18, 6),
            q_bias=parameter(6),
            v_bias=parameter(6),
            scale=parameter(H, 1, 1),
            proj=linear(6, 6, bias=True),
        ),
        (TOKENS,),
        {
            "qkv": runs(-6, 3, 3, -6),
            "q_bias": NOT,
            "v_bias": NOT,
            "scale": NOT,
            "proj.weight": NOT,
            "proj.bias": NOT,
        },
    ),
    Case(
        "linear_attention",
        lambda: Net(
            linear_attention, qkv=linear(6, 18), proj=linear(6, 6), norm=nn.RMSNorm(6, elementwise_affine=False)
        ),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, 3, 6), "proj.weight": per()},
    ),
    Case(
        "linear_attention_without_a_norm_behind",
        lambda: Net(linear_attention, qkv=linear(6, 18), proj=linear(6, 6), norm=nn.Identity()),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, 3, -6), "proj.weight": NOT},
    ),
    Case(
        # The column of ones does not scale with v, the others do.
        "padded_linear_attention",
        lambda: Net(
            padded_linear_attention, qkv=linear(6, 18), proj=linear(6, 6), norm=nn.RMSNorm(6, elementwise_affine=False)
        ),
        (TOKENS,),
        {"qkv.weight": runs(3, 3, 3, 3, 6), "proj.weight": per()},
    ),
    Case(
        "rotary_by_halves",
        lambda: rotated(rotate_half),
        (TOKENS,),
        {"q.weight": per(0, groups=2), "k.weight": per(0, groups=2), "v.weight": NOT},
    ),
    Case(
        "rotary_by_complex_numbers",
        lambda: rotated(rotate_complex),
        (TOKENS,),
        {"q.weight": per(0, groups=2), "k.weight": per(0, groups=2), "v.weight": NOT},
    ),
    Case(
        "torch_attention_layer_norm",
        lambda: torch_attention(bias=False),
        (TOKENS,),
        {"attn.in_proj_weight": runs(-12, 6), "attn.out_proj.weight": per()},
    ),
    Case(
        # Rows of the keys have no use for their bias, queries and values do.
        "torch_attention_with_biases_layer_norm",
        lambda: torch_attention(bias=True),
        (TOKENS,),
        {
            "attn.in_proj_weight": NOT,
            "attn.in_proj_bias": NOT,
            "attn.out_proj.weight": NOT,
            "attn.out_proj.bias": NOT,
        },
    ),
    Case(
        "attention_with_a_mask",
        lambda: separate(
            lambda m, x: rms(x),
            lambda m, x: rms(x),
            lambda q, k, v: join(
                (q @ k.mT).masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), float("-inf")).softmax(-1) @ v
            ),
        ),
        (TOKENS,),
        PER_HEAD,
    ),
]
