"""Small networks of linear layers, embeddings, hand-written norms and reparametrized weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.autogroup.netkit import (
    DEAD,
    IDS,
    IMAGE,
    NOT,
    ROWS,
    TOKENS,
    UNUSED,
    Case,
    Net,
    along0,
    conv,
    linear,
    parameter,
    per,
    runs,
)

LN = {"ln.weight": NOT, "ln.bias": NOT}


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def unrecorded_norm(weight: Tensor) -> Tensor:
    """A norm that autograd does not see: the loss is invariant, its gradient is not tangent."""
    with torch.no_grad():
        return weight.norm(dim=1, keepdim=True)


def after(norm, width: int = 4, bias: bool = False) -> Net:
    """A linear layer, then ``norm``."""
    return Net(lambda m, x: norm(m.fc(x)), fc=linear(3, width, bias))


def layer_norm_by_hand(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def batch_norm_by_hand(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)


def batch_norm_by_var_mean(x: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, 0, keepdim=True)
    return (x - mean) * var.add(1e-5).rsqrt()


def norm_by_einsum(x: Tensor) -> Tensor:
    return x / torch.einsum("...i,...i->...", x, x).unsqueeze(-1).sqrt().clamp_min(1e-6)


def fold(x: Tensor, width: int) -> Tensor:
    """[(batch pixels), patches, channels] -> [batch, channels, height, width] of two by three patches."""
    x = x.contiguous().view(-1, 4, 6, width).transpose(1, 3).reshape(-1, 3, 2, 2)
    return x.transpose(1, 2).reshape(-1, width, 4, 6)


def standardized(weight: Tensor) -> Tensor:
    flat = weight.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1e-5)).view_as(weight)


def standardized_by_batch_norm(weight: Tensor) -> Tensor:
    return F.batch_norm(weight.reshape(1, len(weight), -1), None, None, training=True).reshape_as(weight)


def spelled(name: str, norm, answer, width: int = 4) -> Case:
    return Case(f"rows_{name}", lambda: after(norm, width), (ROWS,), {"fc.weight": answer})


def weight_normed(dim: Any) -> nn.Module:
    return parametrizations.weight_norm(nn.Conv1d(2, 4, 3, bias=False), dim=dim)


G, V = "parametrizations.weight.original0", "parametrizations.weight.original1"
SIGNAL = torch.zeros(4, 2, 7)

CASES = [
    Case(
        "linear_bn",
        lambda: Net(lambda m, x: m.bn(m.fc(x)), fc=linear(3, 4, bias=True), bn=nn.BatchNorm1d(4)),
        (ROWS,),
        {"fc.weight": per(0), "fc.bias": DEAD, "bn.weight": NOT, "bn.bias": NOT},
    ),
    Case(
        # [batch, positions, features] through a norm that wants features second.
        "linear_transpose_bn",
        lambda: Net(lambda m, x: m.bn(m.fc(x).transpose(1, 2)), fc=linear(6, 3), bn=nn.BatchNorm1d(3, affine=False)),
        (TOKENS,),
        {"fc.weight": per(0)},
    ),
    Case(
        "linear_ln",
        lambda: Net(lambda m, x: m.ln(m.fc(x)), fc=linear(3, 4), ln=nn.LayerNorm(4)),
        (ROWS,),
        {"fc.weight": per(), **LN},
    ),
    Case(
        "linear_with_bias_ln",
        lambda: Net(lambda m, x: m.ln(m.fc(x)), fc=linear(3, 4, bias=True), ln=nn.LayerNorm(4)),
        (ROWS,),
        {"fc.weight": NOT, "fc.bias": NOT, **LN},
    ),
    Case(
        # A scalar bias is constant along the normalized axis.
        "linear_with_scalar_bias_ln",
        lambda: Net(lambda m, x: F.layer_norm(m.fc(x) + m.shift, (4,)), fc=linear(3, 4), shift=parameter(1)),
        (ROWS,),
        {"fc.weight": per(), "shift": DEAD},
    ),
    Case(
        "pre_norm_head",
        lambda: Net(lambda m, x: m.fc(m.ln(x)), fc=linear(3, 4, bias=True), ln=nn.LayerNorm(3)),
        (ROWS,),
        {"fc.weight": NOT, "fc.bias": NOT, **LN},
    ),
    Case(
        "rms_norm_module",
        lambda: Net(lambda m, x: m.norm(m.fc(x)), fc=linear(3, 4), norm=nn.RMSNorm(4)),
        (ROWS,),
        {"fc.weight": per(), "norm.weight": NOT},
    ),
    Case(
        "linear_with_bias_rms_norm",
        lambda: after(rms, bias=True),
        (ROWS,),
        {"fc.weight": NOT, "fc.bias": NOT},
    ),
    spelled("rms_by_rsqrt", rms, per()),
    spelled("rms_in_float32", lambda x: rms(x.float()).type_as(x), per()),
    spelled("rms_by_norm", lambda x: x / (x.norm(dim=-1, keepdim=True) / 2 + 1e-8), per()),
    spelled("rms_by_normalize", lambda x: F.normalize(x, dim=-1) * 2, per()),
    spelled("rms_by_vector_norm", lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True), per()),
    spelled("rms_by_einsum", norm_by_einsum, per()),
    spelled("rms_by_square_sum", lambda x: x / (x * x).sum(-1, keepdim=True).sqrt(), per()),
    spelled("mean_absolute_norm", lambda x: x / x.abs().mean(-1, keepdim=True), per()),
    spelled("layer_norm_by_hand", layer_norm_by_hand, per()),
    spelled("layer_norm_by_std", lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6), per()),
    spelled("batch_norm_by_hand", batch_norm_by_hand, per(0)),
    spelled("batch_norm_by_var_mean", batch_norm_by_var_mean, per(0)),
    spelled("batch_norm_by_std", lambda x: (x - x.mean(0)) / (x.std(0) + 1e-6), per(0)),
    spelled("group_norm_by_view", lambda x: rms(x.view(-1, 2, 3)).flatten(1), per(0, groups=2), width=6),
    spelled("strided_groups_by_view", lambda x: rms(x.view(-1, 3, 2).mT), along0(0, 1, 0, 1, 0, 1), width=6),
    # 0.1 is no eps: the sum is not homogeneous.
    spelled("norm_plus_a_large_constant", lambda x: x / (x.norm(dim=-1, keepdim=True) + 0.1), NOT),
    spelled("softmax", lambda x: x.softmax(-1), NOT),
    spelled("squared_then_layer_norm", lambda x: F.layer_norm(x.square(), (4,)), per()),
    spelled("cubed_then_batch_norm", lambda x: F.batch_norm(x.pow(3), None, None, training=True), per(0)),
    spelled("exponential_batch_norm", lambda x: F.batch_norm(x.exp(), None, None, training=True), NOT),
    # log turns a scale into a shift that is constant per feature, which the mean subtraction removes.
    Case(
        "rows_log_batch_norm",
        lambda: after(lambda x: F.batch_norm(x.abs().log(), None, None, training=True)),
        (ROWS,),
        {"fc.weight": per(0)},
        known_missing={"fc.weight": "the logarithm of a scaled value is not followed as a shift"},
    ),
    spelled("signs", lambda x: F.layer_norm(x.sign() * x.abs().sqrt(), (4,)), per()),
    spelled("cumulative_sum_batch_norm", lambda x: F.batch_norm(x.cumsum(1), None, None, training=True), per()),
    spelled("cumulative_sum_layer_norm", lambda x: F.layer_norm(x.cumsum(1), (4,)), per()),
    spelled("cosine_similarity", lambda x: F.cosine_similarity(x[:1], x[1:], dim=-1), per()),
    spelled("outer_product_layer_norm", lambda x: F.layer_norm(x @ x.mT, (7,)), per()),
    # What the mask hides is a matter of its values; the hidden row is dead, so the whole may be scaled too.
    spelled("masked_rms", lambda x: rms(x.masked_fill(torch.tensor([True, False, False, False]), 0.0)), per()),
    Case(
        "three_norms_of_unequal_slices",
        lambda: Net(lambda m, x: [rms(part) for part in m.fc(x).split([3, 2, 4], -1)], fc=linear(3, 9)),
        (ROWS,),
        {"fc.weight": runs(3, 2, 4)},
    ),
    Case(
        "ffn_before_a_norm",
        lambda: Net(lambda m, x: x + rms(m.down(F.relu(m.up(x)))), up=linear(6, 4), down=linear(4, 6)),
        (TOKENS,),
        {"up.weight": per(), "down.weight": per()},
    ),
    Case(
        # silu(gate) is not homogeneous, the product is linear in up.
        "gated_ffn_before_a_norm",
        lambda: Net(
            lambda m, x: x + m.norm(m.down(F.silu(m.gate(x)) * m.up(x))),
            gate=linear(6, 4),
            up=linear(6, 4),
            down=linear(4, 6),
            norm=nn.RMSNorm(6),
        ),
        (TOKENS,),
        {"gate.weight": NOT, "up.weight": per(), "down.weight": per(), "norm.weight": NOT},
    ),
    Case(
        "fused_gate_up_before_a_norm",
        lambda: Net(
            lambda m, x: x + rms(m.down(F.silu(m.both(x)[..., :4]) * m.both(x)[..., 4:])),
            both=linear(6, 8),
            down=linear(4, 6),
        ),
        (TOKENS,),
        {"both.weight": runs(-4, 4), "down.weight": per()},
    ),
    Case(
        "post_norm_residual",
        lambda: Net(lambda m, x: rms(x + m.fc(x)), fc=linear(6, 6)),
        (TOKENS,),
        {"fc.weight": NOT},
    ),
    Case(
        # The whole gain scales the whole row, which the norm divides out.
        "layer_scale_before_a_norm",
        lambda: Net(lambda m, x: F.layer_norm(m.gain * m.fc(x), (4,)), fc=linear(3, 4), gain=parameter(4)),
        (ROWS,),
        {"fc.weight": per(), "gain": per()},
    ),
    Case(
        "embedding_ln",
        lambda: Net(lambda m, ids: m.ln(m.table(ids)), table=nn.Embedding(6, 4), ln=nn.LayerNorm(4)),
        (IDS,),
        {"table.weight": per(0), **LN},
    ),
    Case(
        "embedding_rms",
        lambda: Net(lambda m, ids: rms(m.table(ids)), table=nn.Embedding(6, 4)),
        (IDS,),
        {"table.weight": per(0)},
    ),
    Case(
        # Each feature is normalized over all positions, so the rows of the table meet.
        "embedding_bn",
        lambda: Net(lambda m, ids: m.bn(m.table(ids).mT), table=nn.Embedding(6, 4), bn=nn.BatchNorm1d(4)),
        (IDS,),
        {"table.weight": per(1), "bn.weight": NOT, "bn.bias": NOT},
    ),
    Case(
        "embedding_plus_position_ln",
        lambda: Net(
            lambda m, ids: m.ln(m.table(ids) + m.place),
            table=nn.Embedding(6, 4),
            place=parameter(5, 4),
            ln=nn.LayerNorm(4),
        ),
        (IDS,),
        {"table.weight": NOT, "place": NOT, **LN},
    ),
    Case(
        "summed_embeddings_ln",
        lambda: Net(lambda m, ids: F.layer_norm(m.table(ids).sum(1), (4,)), table=nn.Embedding(6, 4)),
        (IDS,),
        {"table.weight": per()},
    ),
    Case(
        "tied_head",
        lambda: Net(
            lambda m, ids: F.linear(m.ln(m.table(ids)), m.table.weight), table=nn.Embedding(6, 4), ln=nn.LayerNorm(4)
        ),
        (IDS,),
        {"table.weight": NOT, **LN},
    ),
    Case(
        "tied_head_normed_in_both_places",
        lambda: Net(
            lambda m, ids: F.linear(rms(m.table(ids)).tanh(), F.normalize(m.table.weight, dim=-1)),
            table=nn.Embedding(6, 4),
        ),
        (IDS,),
        {"table.weight": per(0)},
    ),
    Case(
        "cosine_head",
        lambda: Net(
            lambda m, x: m.scale.exp() * F.linear(F.normalize(x, dim=-1), F.normalize(m.weight, dim=-1)),
            weight=parameter(4, 3),
            scale=parameter(1),
        ),
        (ROWS,),
        {"weight": per(0), "scale": NOT},
    ),
    Case(
        "arc_cosine_head",
        lambda: Net(
            lambda m, x: torch.cos(F.linear(F.normalize(x), F.normalize(m.weight)).clamp(-0.99, 0.99).acos() + 0.5),
            weight=parameter(4, 3),
        ),
        (ROWS,),
        {"weight": per(0)},
    ),
    Case(
        # One norm for the whole matrix.
        "frobenius_normed_weight",
        lambda: Net(lambda m, x: F.linear(x, m.weight / m.weight.norm()), weight=parameter(4, 3)),
        (ROWS,),
        {"weight": per()},
    ),
    Case(
        "weight_norm_by_hand",
        lambda: Net(
            lambda m, x: F.linear(x, m.gain * m.weight / m.weight.norm(dim=1, keepdim=True)),
            weight=parameter(4, 3),
            gain=parameter(4, 1),
        ),
        (ROWS,),
        {"weight": per(0), "gain": NOT},
    ),
    Case("weight_norm_dim_0", lambda: weight_normed(0), (SIGNAL,), {G: NOT, V: per(0)}),
    Case("weight_norm_dim_1", lambda: weight_normed(1), (SIGNAL,), {G: NOT, V: per(1)}),
    Case("weight_norm_dim_2", lambda: weight_normed(2), (SIGNAL,), {G: NOT, V: per(2)}),
    Case("weight_norm_of_everything", lambda: weight_normed(None), (SIGNAL,), {G: NOT, V: per()}),
    Case(
        # Every gain is a block of one number, of which only the sign matters.
        "weight_norm_bn",
        lambda: nn.Sequential(weight_normed(0), nn.BatchNorm1d(4, affine=False)),
        (SIGNAL,),
        {f"0.{G}": DEAD, f"0.{V}": per(0)},
    ),
    Case(
        "old_weight_norm",
        lambda: _old_weight_norm(),
        (ROWS,),
        {"weight_g": NOT, "weight_v": per(0), "bias": NOT},
    ),
    Case(
        "spectral_norm",
        lambda: parametrizations.spectral_norm(linear(3, 4)),
        (ROWS,),
        {"parametrizations.weight.original": per()},
    ),
    Case(
        # Scaling one row changes sigma, that is, all rows alike; the batch norm then removes every row's scale.
        "spectral_norm_bn",
        lambda: nn.Sequential(parametrizations.spectral_norm(linear(3, 4)), nn.BatchNorm1d(4, affine=False)),
        (ROWS,),
        {"0.parametrizations.weight.original": per(0)},
        known_missing={"0.parametrizations.weight.original": "sigma couples the rows before the batch norm does"},
    ),
    Case(
        "weight_standardization_by_batch_norm",
        lambda: Net(lambda m, x: F.conv2d(x, standardized_by_batch_norm(m.weight)), weight=parameter(4, 2, 2, 2)),
        (IMAGE,),
        {"weight": per(0)},
    ),
    Case(
        "weight_standardization_by_hand",
        lambda: Net(
            lambda m, x: F.conv2d(x, m.gain * standardized(m.weight), m.bias),
            weight=parameter(4, 2, 2, 2),
            gain=parameter(4, 1, 1, 1),
            bias=parameter(4),
        ),
        (IMAGE,),
        {"weight": per(0), "gain": NOT, "bias": NOT},
    ),
    Case(
        "weight_standardization_group_norm",
        lambda: Net(
            lambda m, x: m.gn(F.conv2d(x, standardized(m.weight))),
            weight=parameter(4, 2, 2, 2),
            gn=nn.GroupNorm(2, 4, affine=False),
        ),
        (IMAGE,),
        {"weight": per(0)},
    ),
    Case(
        "weight_gain_before_group_norm",
        lambda: Net(
            lambda m, x: m.gn(F.conv2d(x, m.gain * m.weight)),
            weight=parameter(4, 2, 1, 1),
            gain=parameter(4, 1, 1, 1),
            gn=nn.GroupNorm(2, 4, affine=False),
        ),
        (IMAGE,),
        {"weight": per(0, groups=2), "gain": per(0, groups=2)},
    ),
    Case(
        "softmaxed_weight",
        lambda: Net(lambda m, x: F.linear(x, m.weight.softmax(1)), weight=parameter(4, 3)),
        (ROWS,),
        {"weight": NOT},
    ),
    Case(
        "low_rank_bn",
        lambda: Net(lambda m, x: m.bn(m.b(m.a(x))), a=linear(3, 2), b=linear(2, 4), bn=nn.BatchNorm1d(4, affine=False)),
        (ROWS,),
        {"a.weight": per(), "b.weight": per(0)},
    ),
    Case(
        # Patches of two by two pixels go back to their places by views that mix the batch and the channels.
        "gain_before_folded_patches_and_pointwise_conv",
        lambda: Net(
            lambda m, x: m.bn(m.conv(fold(m.ln(x), width=3))),
            ln=nn.LayerNorm(3),
            conv=conv(3, 4),
            bn=nn.BatchNorm2d(4, affine=False),
        ),
        (torch.zeros(2 * 4, 6, 3),),
        {"ln.weight": per(), "ln.bias": DEAD, "conv.weight": per(0)},
    ),
    Case(
        # base + b a: an adapter on a weight that keeps its own scale.
        "adapter_bn",
        lambda: Net(
            lambda m, x: F.batch_norm(F.linear(x, m.base + m.b @ m.a), None, None, training=True),
            base=parameter(4, 3),
            a=parameter(2, 3),
            b=parameter(4, 2),
        ),
        (ROWS,),
        {"base": NOT, "a": NOT, "b": NOT},
    ),
    Case(
        "input_times_matrix_bn",
        lambda: Net(lambda m, x: F.batch_norm(x @ m.weight, None, None, training=True), weight=parameter(3, 4)),
        (ROWS,),
        {"weight": per(1)},
    ),
    Case(
        "einsum_heads_rms",
        lambda: Net(lambda m, x: rms(torch.einsum("bnd,hdk->bhnk", x, m.weight)), weight=parameter(2, 6, 3)),
        (TOKENS,),
        {"weight": per(0)},
    ),
    Case(
        "einsum_heads_bn",
        lambda: Net(
            lambda m, x: F.batch_norm(
                torch.einsum("bnd,hdk->bnhk", x, m.weight).reshape(10, 6), None, None, training=True
            ),
            weight=parameter(2, 6, 3),
        ),
        (TOKENS,),
        {"weight": per(0, 2)},
    ),
    Case(
        "experts_by_bmm_rms",
        lambda: Net(lambda m, x: rms(torch.bmm(x.view(2, 5, 6), m.weight)), weight=parameter(2, 6, 3)),
        (TOKENS,),
        {"weight": per(0)},
    ),
    Case(
        "shared_by_a_transpose",
        lambda: Net(lambda m, x: rms(F.linear(F.linear(x, m.weight), m.weight.t())), weight=parameter(4, 6)),
        (TOKENS,),
        {"weight": per()},
    ),
    Case(
        "bias_of_an_addition_bn",
        lambda: Net(
            lambda m, x: F.batch_norm(m.fc(x) + m.shift, None, None, training=True),
            fc=linear(3, 4),
            shift=parameter(4),
            spare=parameter(2),
        ),
        (ROWS,),
        {"fc.weight": per(0), "shift": DEAD, "spare": UNUSED},
    ),
    Case(
        "norm_under_no_grad",
        lambda: Net(lambda m, x: F.linear(x, m.weight / unrecorded_norm(m.weight)), weight=parameter(4, 3)),
        (ROWS,),
        {"weight": NOT},
    ),
    Case(
        "detached_norm",
        lambda: Net(lambda m, x: F.linear(x, m.weight / m.weight.norm().detach()), weight=parameter(4, 3)),
        (ROWS,),
        {"weight": NOT},
    ),
    Case(
        "two_outputs_one_raw",
        lambda: Net(lambda m, x: {"normed": rms(m.fc(x)), "raw": m.fc(x)}, fc=linear(3, 4)),
        (ROWS,),
        {"fc.weight": NOT},
    ),
]


def _old_weight_norm() -> nn.Module:
    """The hook-based spelling, which keeps the product of its parameters as a plain attribute."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(linear(3, 4, bias=True))
