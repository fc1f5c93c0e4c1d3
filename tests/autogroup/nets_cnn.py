"""Small convolutional networks with the exact answer for each parameter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.autogroup.netkit import DEAD, IMAGE, NOT, UNUSED, Case, Net, along0, conv, linear, parameter, per, runs

BN4 = {"bn.weight": NOT, "bn.bias": NOT}
X4 = torch.zeros(4, 4, 5, 5)


def bn(channels: int = 4) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels)


def plain(channels: int = 4) -> nn.BatchNorm2d:
    """Batch normalization without gain and shift, where these would only be noise in the table."""
    return nn.BatchNorm2d(channels, affine=False)


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def squeeze_excite(m: Net, x: Tensor) -> Tensor:
    return x * torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3)))))).view(x.shape[0], -1, 1, 1)


class ScaledSilu(torch.autograd.Function):
    """A function autograd is told about by hand; it is not homogeneous."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return 2 * x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        (x,), (grad,) = ctx.saved_tensors, grad_outputs
        s = torch.sigmoid(x)
        return grad * 2 * (s + x * s * (1 - s))


def two_written_halves(m: Net, x: Tensor) -> Tensor:
    out = x.new_zeros(x.shape[0], 4, 5, 5)
    out[:, :2] = m.a(x)
    out[:, 2:] = m.b(x)
    return m.bn(out)


def in_place(m: Net, x: Tensor) -> Tensor:
    y = m.a(x)
    y.relu_()
    z = m.b(x)
    z += m.bn(y)
    return m.last(z)


def dense_block(m: Net, x: Tensor) -> Tensor:
    first = m.stem(x)
    second = torch.cat([first, m.conv1(F.relu(m.bn1(first)))], 1)
    third = torch.cat([second, m.conv2(F.relu(m.bn2(second)))], 1)
    return F.relu(m.bn3(third))


def _groups_of_two_norms(first: int, second: int) -> Net:
    return Net(
        lambda m, x: m.one(m.conv(x)) + m.two(m.conv(x)).tanh(),
        conv=conv(2, 12),
        one=nn.GroupNorm(first, 12, affine=False),
        two=nn.GroupNorm(second, 12, affine=False),
    )


CASES = [
    Case(
        "conv_bn",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4, 3, bias=True), bn=bn()),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD, **BN4},
    ),
    Case(
        "conv1d_bn",
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, affine=False)),
        (torch.zeros(4, 2, 6),),
        {"0.weight": per(0), "0.bias": DEAD},
    ),
    Case(
        "conv3d_bn",
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3, affine=False)),
        (torch.zeros(3, 2, 3, 3, 3),),
        {"0.weight": per(0), "0.bias": DEAD},
    ),
    Case(
        "frozen_conv_is_analyzed_too",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4, 3).requires_grad_(False), bn=bn()),
        (IMAGE,),
        {"conv.weight": per(0), **BN4},
    ),
    Case(
        # A reflected or replicated border keeps a constant constant; zeros do not.
        "bias_before_reflect_padding",
        lambda: Net(
            lambda m, x: m.bn(m.depthwise(F.pad(m.conv(x), (1, 1, 1, 1), mode="reflect"))),
            conv=conv(2, 4, bias=True),
            depthwise=conv(4, 4, 3, groups=4),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD, "depthwise.weight": per(0)},
    ),
    Case(
        "bias_before_zero_padding",
        lambda: Net(
            lambda m, x: m.bn(m.depthwise(m.conv(x))),
            conv=conv(2, 4, bias=True),
            depthwise=conv(4, 4, 3, groups=4, padding=1),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT, "depthwise.weight": per(0)},
    ),
    Case(
        "conv_bn_relu_conv_bn",
        lambda: Net(
            lambda m, x: m.bn2(m.conv2(F.relu(m.bn(m.conv(x))))),
            conv=conv(2, 4, 3),
            bn=bn(),
            conv2=conv(4, 3, 3, padding=1),
            bn2=plain(3),
        ),
        (IMAGE,),
        {"conv.weight": per(0), **BN4, "conv2.weight": per(0)},
    ),
    Case(
        # beta only adds a constant per channel, which the second mean subtraction kills.
        "gain_before_pointwise_conv",
        lambda: Net(lambda m, x: m.bn2(m.conv(m.bn(x))), bn=bn(), conv=conv(4, 3), bn2=plain(3)),
        (X4,),
        {"bn.weight": per(), "bn.bias": DEAD, "conv.weight": per(0)},
    ),
    Case(
        # Zero padding makes beta's contribution differ at the border, so it is not killed and does not scale.
        "gain_before_padded_depthwise_conv",
        lambda: Net(lambda m, x: m.bn2(m.conv(m.bn(x))), bn=bn(), conv=conv(4, 4, 3, groups=4, padding=1), bn2=plain()),
        (X4,),
        {**BN4, "conv.weight": per(0)},
    ),
    Case(
        # Every gain is a block of one number, of which only the sign matters.
        "gain_before_unpadded_depthwise_conv",
        lambda: Net(lambda m, x: m.bn2(m.conv(m.bn(x))), bn=bn(), conv=conv(4, 4, 3, groups=4), bn2=plain()),
        (X4,),
        {"bn.weight": DEAD, "bn.bias": DEAD, "conv.weight": per(0)},
    ),
    Case(
        "depthwise_pointwise_bn",
        lambda: Net(
            lambda m, x: m.bn(m.pointwise(m.depthwise(x))),
            depthwise=conv(4, 4, 3, groups=4, bias=True),
            pointwise=conv(4, 3),
            bn=plain(3),
        ),
        (X4,),
        {"depthwise.weight": per(), "depthwise.bias": DEAD, "pointwise.weight": per(0)},
    ),
    Case(
        "conv_relu_bn",
        lambda: Net(lambda m, x: m.bn(F.relu(m.conv(x))), conv=conv(2, 4, 3), bn=bn()),
        (IMAGE,),
        {"conv.weight": per(0), **BN4},
    ),
    Case(
        "conv_with_bias_relu_bn",
        lambda: Net(lambda m, x: m.bn(F.relu(m.conv(x))), conv=conv(2, 4, 3, bias=True), bn=bn()),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT, **BN4},
    ),
    Case(
        "conv_gelu_bn",
        lambda: Net(lambda m, x: m.bn(F.gelu(m.conv(x))), conv=conv(2, 4, 3), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "conv_relu6_bn",
        lambda: Net(lambda m, x: m.bn(F.relu6(4 * m.conv(x))), conv=conv(2, 4, 3), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "conv_hardswish_bn",
        lambda: Net(lambda m, x: m.bn(F.hardswish(m.conv(x))), conv=conv(2, 4, 3), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "homogeneous_activations_bn",
        lambda: Net(
            lambda m, x: m.bn(F.leaky_relu(m.conv(x), 0.1).abs().clamp(min=0) - F.threshold(-m.conv(x), 0.0, 0.0)),
            conv=conv(2, 4, 3),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "conv_prelu_bn",
        lambda: Net(lambda m, x: m.bn(m.act(m.conv(x))), conv=conv(2, 4, 3), act=nn.PReLU(4), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0), "act.weight": NOT},
    ),
    Case(
        # The comparison with zero does not change under scaling.
        "where_spelled_leaky_relu_bn",
        lambda: Net(
            lambda m, x: m.bn(torch.where(m.conv(x) > 0, m.conv(x), 0.1 * m.conv(x))), conv=conv(2, 4), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "max_of_two_convs_bn",
        lambda: Net(lambda m, x: m.bn(torch.maximum(m.a(x), m.b(x))), a=conv(2, 4), b=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"a.weight": NOT, "b.weight": NOT},
    ),
    Case(
        "max_of_halves_of_one_conv_bn",
        lambda: Net(lambda m, x: m.bn(torch.maximum(*m.conv(x).chunk(2, 1))), conv=conv(2, 4), bn=plain(2)),
        (IMAGE,),
        {"conv.weight": along0(0, 1, 0, 1)},
    ),
    Case(
        "max_pool_commutes_with_a_bias",
        lambda: Net(
            lambda m, x: m.bn(F.max_pool2d(m.conv(x), 3, 1, padding=1)), conv=conv(2, 4, 3, bias=True), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "avg_pool_counting_its_padding",
        lambda: Net(
            lambda m, x: m.bn(F.avg_pool2d(m.conv(x), 3, 1, padding=1)), conv=conv(2, 4, bias=True), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT},
    ),
    Case(
        "avg_pool_not_counting_its_padding",
        lambda: Net(
            lambda m, x: m.bn(F.avg_pool2d(m.conv(x), 3, 1, padding=1, count_include_pad=False)),
            conv=conv(2, 4, bias=True),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "avg_pool_with_padding_without_bias",
        lambda: Net(lambda m, x: m.bn(F.avg_pool2d(m.conv(x), 3, 1, padding=1)), conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "dropout_bn",
        lambda: Net(lambda m, x: m.bn(F.dropout(m.conv(x), 0.3, m.training)), conv=conv(2, 4, 3), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        # A random mask on w x + b leaves a shift that is not constant, which no mean removes.
        "bias_dropout_bn",
        lambda: Net(lambda m, x: m.bn(F.dropout(m.conv(x), 0.3, m.training)), conv=conv(2, 4, bias=True), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT},
        oracle_differs=dict.fromkeys(("conv.weight", "conv.bias"), "the oracle turns dropout off"),
    ),
    Case(
        "upsample_bn",
        lambda: Net(
            lambda m, x: m.bn(F.interpolate(m.conv(x), scale_factor=2, mode="bilinear")),
            conv=conv(2, 4, bias=True),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "squeeze_excite_on_bn_output",
        lambda: Net(
            lambda m, x: squeeze_excite(m, m.bn(m.conv(x))),
            conv=conv(2, 4, 3),
            bn=bn(),
            down=linear(4, 3, bias=True),
            up=linear(3, 4, bias=True),
        ),
        (IMAGE,),
        {"conv.weight": per(0), **BN4, "down.weight": NOT, "down.bias": NOT, "up.weight": NOT, "up.bias": NOT},
    ),
    Case(
        "squeeze_excite_before_bn",
        lambda: Net(
            lambda m, x: m.bn(squeeze_excite(m, m.conv(x))),
            conv=conv(2, 4),
            down=linear(4, 3),
            up=linear(3, 4),
            bn=bn(),
        ),
        (IMAGE,),
        {"conv.weight": NOT, **BN4, "down.weight": NOT, "up.weight": NOT},
    ),
    Case(
        "channel_attention_bn",
        lambda: Net(
            lambda m, x: (
                m.bn(m.conv(x)) * torch.sigmoid(m.attend(x.mean((2, 3)).unsqueeze(1))).transpose(1, 2).unsqueeze(3)
            ),
            conv=conv(4, 4),
            bn=plain(),
            attend=nn.Conv1d(1, 1, 3, padding=1, bias=False),
        ),
        (X4,),
        {"conv.weight": per(0), "attend.weight": NOT},
    ),
    Case(
        # A kernel of one row: its labels have one entry from the start.
        "small_kernel_layer_norm",
        lambda: Net(
            lambda m, x: F.layer_norm(m.attend(x.mean((2, 3)).unsqueeze(1)).squeeze(1), (4,)),
            attend=nn.Conv1d(1, 1, 3, padding=1, bias=False),
        ),
        (X4,),
        {"attend.weight": per()},
    ),
    Case(
        "concat_bn",
        lambda: Net(lambda m, x: m.bn(torch.cat([m.a(x), m.b(x), x], 1)), a=conv(2, 3), b=conv(2, 3), bn=plain(8)),
        (IMAGE,),
        {"a.weight": per(0), "b.weight": per(0)},
    ),
    Case(
        "concat_conv_bn",
        lambda: Net(
            lambda m, x: m.bn(m.conv(torch.cat([m.a(x), m.b(x)], 1))),
            a=conv(2, 3),
            b=conv(2, 3),
            conv=conv(6, 4),
            bn=plain(),
        ),
        (IMAGE,),
        {"a.weight": NOT, "b.weight": NOT, "conv.weight": per(0)},
    ),
    Case(
        # Groups of three channels: a0 a1 b0 | b1 b2 b3. Only the second lies in one parameter.
        "concat_group_norm",
        lambda: Net(
            lambda m, x: m.gn(torch.cat([m.a(x), m.b(x)], 1)),
            a=conv(2, 2),
            b=conv(2, 4),
            gn=nn.GroupNorm(2, 6, affine=False),
        ),
        (IMAGE,),
        {"a.weight": NOT, "b.weight": runs(-1, 3)},
    ),
    Case(
        "dense_block",
        lambda: Net(dense_block, stem=conv(2, 3), bn1=bn(3), conv1=conv(3, 2), bn2=bn(5), conv2=conv(5, 2), bn3=bn(7)),
        (IMAGE,),
        {
            "stem.weight": per(0),
            "conv1.weight": per(0),
            "conv2.weight": per(0),
            **{f"bn{i}.{kind}": NOT for i in (1, 2, 3) for kind in ("weight", "bias")},
        },
    ),
    Case(
        "residual_before_the_norm_of_the_next_block",
        lambda: Net(lambda m, x: x + m.conv(F.relu(m.bn(x))), conv=conv(4, 4), bn=bn()),
        (X4,),
        {"conv.weight": NOT, **BN4},
    ),
    Case(
        "residual_sum_bn",
        lambda: Net(lambda m, x: m.bn(x + m.conv(x)), conv=conv(4, 4), bn=bn()),
        (X4,),
        {"conv.weight": NOT, **BN4},
    ),
    Case(
        "sum_of_two_branches_of_one_conv_bn",
        lambda: Net(lambda m, x: m.bn(m.conv(x) + F.relu(m.conv(x))), conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "sum_of_two_bn_outputs_bn",
        lambda: Net(
            lambda m, x: m.last(m.bn1(m.a(x)) + m.bn2(m.b(x))),
            a=conv(2, 4, 3),
            bn1=bn(),
            b=conv(2, 4, 3),
            bn2=bn(),
            last=plain(),
        ),
        (IMAGE,),
        {
            "a.weight": per(0),
            "b.weight": per(0),
            "bn1.weight": NOT,
            "bn2.weight": NOT,
            "bn1.bias": DEAD,
            "bn2.bias": DEAD,
        },
    ),
    Case(
        "grouped_conv_bn",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(4, 4, 3, groups=2), bn=plain()),
        (X4,),
        {"conv.weight": per(0)},
    ),
    Case(
        "depthwise_conv_bn",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(4, 4, 3, groups=4), bn=plain()),
        (X4,),
        {"conv.weight": per(0)},
    ),
    Case(
        "depthwise_conv_channel_layer_norm",
        lambda: Net(lambda m, x: m.ln(m.conv(x).permute(0, 2, 3, 1)), conv=conv(4, 4, 3, groups=4), ln=nn.LayerNorm(4)),
        (X4,),
        {"conv.weight": per(), "ln.weight": NOT, "ln.bias": NOT},
    ),
    Case(
        "depthwise_conv_with_bias_channel_layer_norm",
        lambda: Net(
            lambda m, x: m.ln(m.conv(x).permute(0, 2, 3, 1)),
            conv=conv(4, 4, 3, groups=4, bias=True),
            ln=nn.LayerNorm(4, elementwise_affine=False),
        ),
        (X4,),
        {"conv.weight": NOT, "conv.bias": NOT},
    ),
    Case(
        "transposed_conv_bn",
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 2, stride=2), plain()),
        (IMAGE,),
        {"0.weight": per(1), "0.bias": DEAD},
    ),
    Case(
        # A transposed weight is (in, out / groups): the block is (group of the input, output within the group).
        "grouped_transposed_conv_bn",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2, bias=False), plain()),
        (X4,),
        {"0.weight": per(0, 1, groups=2)},
    ),
    Case(
        "conv_group_norm",
        lambda: Net(lambda m, x: m.gn(m.conv(x)), conv=conv(2, 6), gn=nn.GroupNorm(2, 6)),
        (IMAGE,),
        {"conv.weight": per(0, groups=2), "gn.weight": NOT, "gn.bias": NOT},
    ),
    Case(
        "conv_with_bias_group_norm",
        lambda: Net(lambda m, x: m.gn(m.conv(x)), conv=conv(2, 6, bias=True), gn=nn.GroupNorm(2, 6, affine=False)),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT},
    ),
    Case(
        "one_channel_per_group",
        lambda: Net(lambda m, x: m.gn(m.conv(x)), conv=conv(2, 4, bias=True), gn=nn.GroupNorm(4, 4, affine=False)),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "one_group",
        lambda: Net(lambda m, x: m.gn(m.conv(x)), conv=conv(2, 4), gn=nn.GroupNorm(1, 4)),
        (IMAGE,),
        {"conv.weight": per(), "gn.weight": NOT, "gn.bias": NOT},
    ),
    Case(
        "instance_norm",
        lambda: Net(lambda m, x: m.norm(m.conv(x)), conv=conv(2, 4, bias=True), norm=nn.InstanceNorm2d(4, affine=True)),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD, "norm.weight": NOT, "norm.bias": NOT},
    ),
    Case(
        "layer_norm_over_an_image",
        lambda: Net(lambda m, x: F.layer_norm(m.conv(x), (4, 5, 5)), conv=conv(2, 4)),
        (IMAGE,),
        {"conv.weight": per()},
    ),
    Case(
        # The normalized axes are spatial: every channel is on its own and a bias is constant there.
        "layer_norm_over_space",
        lambda: Net(lambda m, x: F.layer_norm(m.conv(x), (5, 5)), conv=conv(2, 4, bias=True)),
        (IMAGE,),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "local_response_norm_adds_one",
        lambda: Net(lambda m, x: F.local_response_norm(m.conv(x), 3), conv=conv(2, 4)),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "bn_in_eval_mode",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4, bias=True), bn=bn()),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT, **BN4},
        mode="eval",
    ),
    Case(
        "bn_without_running_statistics_in_eval_mode",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4), bn=nn.BatchNorm2d(4, track_running_stats=False)),
        (IMAGE,),
        {"conv.weight": per(0), **BN4},
        mode="eval",
    ),
    Case(
        "frozen_bn_of_buffers",
        lambda: Net(
            lambda m, x: m.conv(x) * (m.gain * (m.var + 1e-5).rsqrt()).view(1, -1, 1, 1) - m.mean.view(1, -1, 1, 1),
            conv=conv(2, 4),
            gain=torch.ones(4),
            var=torch.ones(4),
            mean=torch.full((4,), 0.5),
        ),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        # Group g of the second convolution reads channels g and g + 2 of the first: strided blocks.
        "channel_shuffle_between_grouped_convs",
        lambda: Net(
            lambda m, x: m.bn(m.b(shuffle(m.a(x), 2))),
            a=conv(4, 4, groups=2),
            b=conv(4, 4, groups=2),
            bn=plain(),
        ),
        (X4,),
        {"a.weight": along0(0, 1, 0, 1), "b.weight": per(0)},
    ),
    Case(
        "moved_features_bn",
        lambda: Net(
            lambda m, x: m.bn(
                F.pad(m.conv(x).roll(1, 1).flip(3), (1, 0, 0, 1)).index_select(1, m.order)[:, [0, 3, 2, 1]]
            ),
            conv=conv(2, 4),
            order=torch.tensor([2, 0, 3, 1]),
            bn=plain(),
        ),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "gathered_positions_instance_norm",
        lambda: Net(
            lambda m, x: F.instance_norm(m.conv(x).flatten(2).gather(2, m.where.expand(4, 4, 9))),
            conv=conv(2, 4),
            where=torch.arange(9) * 2,
        ),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "norm_of_a_slice",
        lambda: Net(lambda m, x: m.bn(m.conv(x)[:, :2]), conv=conv(2, 4), bn=plain(2)),
        (IMAGE,),
        {"conv.weight": runs(1, 1, -2)},
    ),
    Case(
        "slice_of_a_norm",
        lambda: Net(lambda m, x: m.bn(m.conv(x))[:, :2], conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "half_normed_half_used_raw",
        lambda: Net(lambda m, x: (m.bn(m.conv(x)[:, :2]), m.conv(x)[:, 2:]), conv=conv(2, 4, bias=True), bn=plain(2)),
        (IMAGE,),
        {"conv.weight": runs(1, 1, -2), "conv.bias": NOT},
    ),
    Case(
        "split_into_two_norms",
        lambda: Net(
            lambda m, x: (m.bn(m.conv(x)[:, :2]), m.gn(m.conv(x)[:, 2:])),
            conv=conv(2, 6),
            bn=plain(2),
            gn=nn.GroupNorm(1, 4, affine=False),
        ),
        (IMAGE,),
        {"conv.weight": runs(1, 1, 4)},
    ),
    Case(
        "two_norms_one_finer",
        lambda: Net(
            lambda m, x: (m.bn(m.conv(x)), m.gn(m.conv(x))),
            conv=conv(2, 4),
            bn=plain(),
            gn=nn.GroupNorm(2, 4, affine=False),
        ),
        (IMAGE,),
        {"conv.weight": per(0, groups=2)},
    ),
    Case(
        # Groups of six and of four channels: 0-5 and 4-7 share channels, so do 4-7 and 6-11.
        "two_norms_that_overlap",
        lambda: _groups_of_two_norms(2, 3),
        (IMAGE,),
        {"conv.weight": per()},
    ),
    Case(
        "two_norms_of_equal_groups",
        lambda: _groups_of_two_norms(2, 4),
        (IMAGE,),
        {"conv.weight": per(0, groups=2)},
    ),
    Case(
        "normed_and_also_used_raw",
        lambda: Net(lambda m, x: m.bn(m.conv(x)) + F.relu(m.conv(x)), conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "one_conv_applied_twice",
        lambda: Net(lambda m, x: m.bn(m.conv(F.relu(m.conv(x)))), conv=conv(4, 4), bn=plain()),
        (X4,),
        {"conv.weight": per()},
    ),
    Case(
        "one_conv_in_two_places",
        lambda: Net(lambda m, x: m.bn(m.conv(F.relu(m.bn(m.conv(x))))), conv=conv(4, 4), bn=bn()),
        (X4,),
        {"conv.weight": per(0), **BN4},
    ),
    Case(
        "product_of_two_convs_bn",
        lambda: Net(lambda m, x: m.bn(m.a(x) * m.b(x)), a=conv(2, 4), b=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"a.weight": per(0), "b.weight": per(0)},
    ),
    Case(
        # Channel i of the product scales with row i and with row i + 4, each on its own.
        "product_of_halves_bn",
        lambda: Net(lambda m, x: m.bn(torch.mul(*m.conv(x).chunk(2, 1))), conv=conv(2, 8), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "gated_half_bn",
        lambda: Net(lambda m, x: m.bn(F.glu(m.conv(x), 1)), conv=conv(2, 8), bn=plain()),
        (IMAGE,),
        {"conv.weight": runs(1, 1, 1, 1, -4)},
    ),
    Case(
        "global_response_gate",
        lambda: Net(
            lambda m, x: m.bn(m.b(x)) * m.response(m.a(x)),
            response=Net(lambda _, x: (g := x.norm(dim=(2, 3), keepdim=True)) / (g.mean(1, keepdim=True) + 1e-6)),
            a=conv(2, 4),
            b=conv(2, 4),
            bn=plain(),
        ),
        (IMAGE,),
        {"a.weight": per(), "b.weight": per(0)},
    ),
    Case(
        "global_mean_layer_norm",
        lambda: Net(lambda m, x: F.layer_norm(F.adaptive_avg_pool2d(m.conv(x), 1).flatten(1), (4,)), conv=conv(2, 4)),
        (IMAGE,),
        {"conv.weight": per()},
    ),
    Case(
        # Each flattened position is a feature of its own; those of one channel share its scale.
        "flatten_bn1d",
        lambda: Net(
            lambda m, x: m.bn(m.conv(x).flatten(1)),
            conv=conv(2, 3, 4, bias=True),
            bn=nn.BatchNorm1d(12, affine=False),
        ),
        (torch.zeros(6, 2, 5, 5),),
        {"conv.weight": per(0), "conv.bias": DEAD},
    ),
    Case(
        "divided_by_its_maximum",
        lambda: Net(lambda m, x: m.conv(x) / m.conv(x).amax((1, 2, 3), keepdim=True), conv=conv(2, 4)),
        (IMAGE,),
        {"conv.weight": per()},
    ),
    Case(
        "written_by_slices",
        lambda: Net(two_written_halves, a=conv(2, 2), b=conv(2, 2), bn=plain()),
        (IMAGE,),
        {"a.weight": per(0), "b.weight": per(0)},
    ),
    Case(
        "in_place_operators",
        lambda: Net(in_place, a=conv(2, 4), b=conv(2, 4), bn=bn(), last=plain()),
        (IMAGE,),
        {"a.weight": per(0), "b.weight": NOT, "bn.weight": NOT, "bn.bias": DEAD},
    ),
    Case(
        "checkpointed_block",
        lambda: Net(
            lambda m, x: checkpoint(lambda y: m.bn(m.conv(y)), x, use_reentrant=False), conv=conv(2, 4), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "custom_function_that_is_not_homogeneous",
        lambda: Net(lambda m, x: m.bn(ScaledSilu.apply(m.conv(x))), conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": NOT},
    ),
    Case(
        "unused_parameter",
        lambda: Net(lambda m, x: m.bn(m.conv(x)), conv=conv(2, 4), bn=plain(), spare=parameter(3)),
        (IMAGE,),
        {"conv.weight": per(0), "spare": UNUSED},
    ),
    Case(
        "layer_scale_before_bn",
        lambda: Net(
            lambda m, x: m.bn(m.gain.view(1, -1, 1, 1) * m.conv(x)), conv=conv(2, 4), gain=parameter(4), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": per(0), "gain": DEAD},
    ),
    Case(
        "masked_features_bn",
        lambda: Net(lambda m, x: m.bn(m.conv(x).masked_fill(x[:, :1] > 0, 0.0)), conv=conv(2, 4), bn=plain()),
        (IMAGE,),
        {"conv.weight": per(0)},
    ),
    Case(
        "masked_features_with_bias_bn",
        lambda: Net(
            lambda m, x: m.bn(m.conv(x).masked_fill(x[:, :1] > 0, 0.0)), conv=conv(2, 4, bias=True), bn=plain()
        ),
        (IMAGE,),
        {"conv.weight": NOT, "conv.bias": NOT},
    ),
]
