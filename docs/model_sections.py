"""The texts of ``models.md``, each with the claims it makes, which ``make_models`` checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """One model: how to build it, what to show of it, and what to say.

    Parameters go by the end of their name, which means all parameters that end so: ``q_proj.weight``.
    """

    title: str
    code: str
    """Defines ``model`` and ``report``; runs after ``SETUP``."""
    shown: tuple[str, ...]
    """Patterns of names: the rows of the table."""
    explained: tuple[str, ...]
    """Full names of parameters whose explanation is shown."""
    text: str
    inputs: str = "tokens"
    verdicts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Parameter → its verdict, or verdict and partition. Every parameter that the text names must be here."""
    symmetries: tuple[str, ...] = ()
    """Symmetries that the text relies on, as printed."""
    neutral: tuple[tuple[str, ...], ...] = ()
    """Sets of which the text says that decay on all of them leaves the loss as it is."""
    real: tuple[tuple[str, ...], ...] = ()
    """Sets of which it says that decay on all of them changes it."""
    unmoved: tuple[str, ...] = ()
    """Parameters that no symmetry moves."""
    spared: tuple[str, ...] = ()
    """What ``param_groups(weight_decay=...)`` does not decay."""


HEAD = """\
# What the analysis says of real models

Written by `python -m docs.make_models` with {versions}; do not edit.

All models are built small, with random weights. Weights play no role for the analysis, and widths only set the number
of blocks. Every snippet follows this one:

```python
{setup}
```

How to read the paragraphs on weight decay: in every step, decoupled decay multiplies what it acts on by 1 − lr·λ.

- `invariant`: the loss stays as it is. The gradient of a block grows as 1/‖w‖ when the block shrinks, so decay sets the
  effective learning rate of the block (lr/‖w‖² for SGD, lr/‖w‖ for Adam) and nothing else.
- `partial`: the same for the rows that are named. The other rows are decayed for real.
- `joint`: the same for the whole set, if every member is decayed by the same factor. If some members are spared, such
  as biases, decay changes their ratio to the others, and the loss with it. A correction such as AdamC's, which rests on
  the norm at which decay and gradient balance, belongs to the norm of the whole set.
- `dead`: the loss does not depend on it; decay takes it to zero, and nothing happens.
- `variant`: decay is a real penalty. Where the parameter is part of a `rescale` symmetry with a gain that is not
  decayed, the penalty does not bind: the gain may grow as the weight shrinks, at no cost.

"The usual policy" is `param_groups(weight_decay=...)`: decay for matrices, kernels and lookup tables, none for norms,
biases, and what is only added or multiplied on. Whatever is said below about sets that may shrink together without a
change of the loss, or may not, was tested numerically on the model when this page was written. So were, with
`autogroup.certify`, all invariant, partial and dead verdicts and all symmetries.
"""

SETUP = """\
import torch, transformers
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
import autogroup

image = {"x": torch.zeros(2, 3, 32, 32)}
tokens = {"input_ids": torch.arange(16).view(2, 8)}
sizes = dict(vocab_size=16, hidden_size=16, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2)
sizes |= dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
"""

_VIT = """\
options = dict(img_size=32, patch_size=16, embed_dim=16, depth=1, num_heads=2, class_token=False, global_pool="avg")
model = VisionTransformer(**options, num_classes=5, qk_norm=True, qkv_bias={bias})
report = autogroup.analyze(model, kwargs=image)
autogroup.print_table(report)
"""

_LM = """\
model = transformers.{name}ForCausalLM(transformers.{config}Config(**sizes{options}))
report = autogroup.analyze(model, kwargs=tokens)
autogroup.print_table(report)
"""

_BLOCK = "model.layers.0."
_ATTENTION = f"{_BLOCK}self_attn."
_MLP = f"{_BLOCK}mlp."
_STREAM = ("embed_tokens.weight", "o_proj.weight", "down_proj.weight")
_POST_NORMED = tuple(f"{name}_proj.weight" for name in ("q", "k", "v", "o", "up", "down"))


SECTIONS = (
    Section(
        title="ViT with fused qkv and qk-norm (timm)",
        code=_VIT.format(bias=False),
        inputs="image",
        shown=("pos_embed", "patch_embed.*", "blocks.0.attn.*"),
        explained=("blocks.0.attn.qkv.weight",),
        text="""\
The rows 0:32 of `attn.qkv.weight`, queries and keys, are invariant, one block per head: decay only sets their
effective learning rate. The rows 32:48, the values, are decayed for real, so one number of decay does two different
things inside one tensor. `q_norm.weight` and `k_norm.weight`, which set the temperature of the attention, are
spared by the usual policy: decay does not flatten the attention here. `k_norm.bias` is dead, since it adds the same
number to all scores of a query. Everything that writes to the residual stream forms one joint set:
`patch_embed.proj.weight`, `patch_embed.proj.bias`, `pos_embed`, `attn.proj.weight`, `attn.proj.bias`,
`mlp.fc2.weight` and `mlp.fc2.bias`. Decayed together they would only change the effective learning rate of the set.
The usual policy decays the matrices and spares the biases and `pos_embed`, which therefore gain weight in the
stream. Even with all seven decayed, decay on the values shrinks the attention branch once more. `mlp.fc1.weight`,
in front of a GELU, is decayed for real.""",
        verdicts={
            "attn.qkv.weight": "partial, o i -> 4 blocks of rows 0:32",
            "q_norm.weight": "variant",
            "k_norm.weight": "variant",
            "k_norm.bias": "dead",
            "patch_embed.proj.weight": "joint",
            "patch_embed.proj.bias": "joint",
            "pos_embed": "joint",
            "attn.proj.weight": "joint",
            "attn.proj.bias": "joint",
            "mlp.fc2.weight": "joint",
            "mlp.fc2.bias": "joint",
            "mlp.fc1.weight": "variant",
        },
        neutral=(
            ("qkv.weight[0:32]",),
            (
                *("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "attn.proj.weight"),
                *("attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias"),
            ),
        ),
        real=(
            ("qkv.weight[32:48]",),
            ("patch_embed.proj.weight", "attn.proj.weight", "mlp.fc2.weight"),
            (
                *("patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "attn.proj.weight"),
                *("attn.proj.bias", "mlp.fc2.weight", "mlp.fc2.bias", "qkv.weight[32:48]"),
            ),
            ("mlp.fc1.weight",),
        ),
        spared=("q_norm.weight", "k_norm.weight", "pos_embed", "patch_embed.proj.bias", "attn.proj.bias", "fc2.bias"),
    ),
    Section(
        title="The same ViT with a bias in qkv",
        code=_VIT.format(bias=True),
        inputs="image",
        shown=("blocks.0.attn.qkv.*",),
        explained=("blocks.0.attn.qkv.weight",),
        text="""\
With a bias, no row of `qkv.weight` is invariant alone: the norm of queries and keys does not remove a bias that
differs between channels. In each of the four blocks of queries and keys, weight and bias may still be scaled
together: that is the joint scale in the explanation. The verdict stays `variant`, since the values take no part in
it. The usual policy decays the weight and spares `qkv.bias`. Then, as the weight shrinks, normalized queries and
keys depend less and less on their input and more on the bias: a real penalty. Decay on the rows of both leaves an
effective learning rate and nothing else.""",
        verdicts={"qkv.weight": "variant", "qkv.bias": "variant"},
        symmetries=("joint scale: blocks.0.attn.qkv.weight[0:32] × α, blocks.0.attn.qkv.bias[0:32] × α  (4 of them)",),
        neutral=(("qkv.weight[0:32]", "qkv.bias[0:32]"),),
        real=(("qkv.weight[0:32]",), ("qkv.weight[0:8]",), ("qkv.weight[32:48]", "qkv.bias[32:48]")),
        spared=("qkv.bias",),
    ),
    Section(
        title="StableLM with qk-norm",
        code=_LM.format(name="StableLm", config="StableLm", options=", num_key_value_heads=1, qk_layernorm=True"),
        shown=("model.embed*", f"{_ATTENTION}*", f"{_MLP}*"),
        explained=(f"{_ATTENTION}v_proj.weight",),
        text="""\
Each head of `q_proj.weight` and `k_proj.weight` is invariant: decay only sets its effective learning rate. The
residual stream has a joint set: `embed_tokens.weight`, `o_proj.weight` and `down_proj.weight`; with more layers,
the last two of every layer. In it `v_proj.weight` may stand in for `o_proj.weight`, and `up_proj.weight` for
`down_proj.weight`, because only their products reach the stream. Decay on the three of one set leaves the loss as
it is. Decay on all five, which is the usual policy, does not: every branch is a product of two decayed matrices and
shrinks twice while the embedding shrinks once. What decay really limits is thus the size of each branch relative to
the embedding. `gate_proj.weight`, in front of a SiLU, and `lm_head.weight` are decayed for real, though the gains
of the norms before them are not decayed and may make up for it.""",
        verdicts={
            "q_proj.weight": "invariant, (g o) i -> g  g=2",
            "k_proj.weight": "invariant, o i -> ()",
            "embed_tokens.weight": "joint",
            "o_proj.weight": "joint",
            "down_proj.weight": "joint",
            "v_proj.weight": "joint",
            "up_proj.weight": "joint",
            "gate_proj.weight": "variant",
            "lm_head.weight": "variant",
        },
        symmetries=(
            f"rescale: {_ATTENTION}v_proj.weight[i] × α, {_ATTENTION}o_proj.weight[:, i] × α^-1  (8 of them)",
            "rescale: model.norm.weight[i] × α, model.norm.bias[i] × α, lm_head.weight[:, i] × α^-1  (16 of them)",
        ),
        neutral=(
            _STREAM,
            ("embed_tokens.weight", "v_proj.weight", "up_proj.weight"),
            ("q_proj.weight", "k_proj.weight"),
        ),
        real=((*_STREAM, "v_proj.weight", "up_proj.weight"), ("gate_proj.weight",), ("lm_head.weight",)),
        spared=("model.norm.weight", "model.norm.bias", "post_attention_layernorm.weight"),
    ),
    Section(
        title="Persimmon",
        code=_LM.format(name="Persimmon", config="Persimmon", options=""),
        shown=("model.embed*", f"{_ATTENTION}*", f"{_MLP}*"),
        explained=(f"{_ATTENTION}query_key_value.weight", f"{_MLP}dense_h_to_4h.weight"),
        text="""\
Queries, keys and values lie head by head in `query_key_value.weight`: of each 24 rows the first 16 are normalized.
All projections of a block have biases, so nothing is invariant alone. The rows of queries and keys are jointly so
with the same entries of `query_key_value.bias`, and the stream has the joint set `embed_tokens.weight`,
`self_attn.dense.weight`, `self_attn.dense.bias`, `dense_4h_to_h.weight`, `dense_4h_to_h.bias`. The usual policy
spares all the biases, so decay makes the biases count for more in both sets: a real penalty everywhere, also on the
queries and keys. The MLP has a squared ReLU: its branch is quadratic in `dense_h_to_4h.weight` with
`dense_h_to_4h.bias`, hence the α^-2 of the second layer, and decay on the weights of both layers shrinks what
reaches the stream about three times as fast as it shrinks a single matrix.""",
        verdicts={
            "query_key_value.weight": "variant",
            "query_key_value.bias": "variant",
            "embed_tokens.weight": "joint",
            "self_attn.dense.weight": "joint",
            "self_attn.dense.bias": "joint",
            "dense_4h_to_h.weight": "joint",
            "dense_4h_to_h.bias": "joint",
            "dense_h_to_4h.weight": "variant",
            "dense_h_to_4h.bias": "variant",
        },
        symmetries=(
            f"rescale: {_MLP}dense_h_to_4h.weight[i] × α, {_MLP}dense_h_to_4h.bias[i] × α, "
            f"{_MLP}dense_4h_to_h.weight[:, i] × α^-2  (12 of them)",
        ),
        neutral=(
            ("query_key_value.weight[0:16,24:40]", "query_key_value.bias[0:16,24:40]"),
            (
                *("embed_tokens.weight", "self_attn.dense.weight", "self_attn.dense.bias"),
                *("dense_4h_to_h.weight", "dense_4h_to_h.bias"),
            ),
        ),
        real=(
            ("query_key_value.weight[0:16,24:40]",),
            ("query_key_value.weight", "query_key_value.bias"),
            ("embed_tokens.weight", "self_attn.dense.weight", "dense_4h_to_h.weight"),
            ("dense_h_to_4h.weight", "dense_4h_to_h.weight"),
        ),
        spared=("query_key_value.bias", "self_attn.dense.bias", "dense_4h_to_h.bias", "dense_h_to_4h.bias"),
    ),
    Section(
        title="OLMo2",
        code=_LM.format(name="Olmo2", config="Olmo2", options=""),
        shown=("model.embed*", f"{_BLOCK}*"),
        explained=("model.embed_tokens.weight",),
        text="""\
Norms stand behind the branches here. Six of the seven matrices of a layer are invariant as whole tensors, and
independently of each other: `q_proj.weight`, `k_proj.weight`, `v_proj.weight`, `o_proj.weight`, `up_proj.weight`,
`down_proj.weight`. Decay sets six effective learning rates and regularizes nothing; these are the weights that
AdamC calls normalized. How much a layer adds to the stream is up to `post_attention_layernorm.weight` and
`post_feedforward_layernorm.weight`, which the usual policy spares. `embed_tokens.weight` is decayed for real:
against the undecayed gains of these norms it loses weight in the stream. `gate_proj.weight` and `lm_head.weight`
are decayed for real too.""",
        verdicts={
            **dict.fromkeys(_POST_NORMED, "invariant, o i -> ()"),
            "post_attention_layernorm.weight": "variant",
            "post_feedforward_layernorm.weight": "variant",
            "embed_tokens.weight": "variant",
            "gate_proj.weight": "variant",
            "lm_head.weight": "variant",
        },
        neutral=(_POST_NORMED, *((name,) for name in _POST_NORMED)),
        real=(("embed_tokens.weight",), ("gate_proj.weight",), ("lm_head.weight",)),
        spared=("post_attention_layernorm.weight", "post_feedforward_layernorm.weight"),
    ),
    Section(
        title="Gemma 3",
        code=_LM.format(name="Gemma3", config="Gemma3Text", options=", num_key_value_heads=1, head_dim=8"),
        shown=("model.embed*", f"{_ATTENTION}*", f"{_MLP}*"),
        explained=(f"{_ATTENTION}o_proj.weight",),
        text="""\
As in OLMo2 six matrices of each layer are invariant, `q_proj.weight` head by head: `k_proj.weight`,
`v_proj.weight`, `o_proj.weight`, `up_proj.weight` and `down_proj.weight` as whole tensors. Decay only sets their
effective learning rates. The gains are 1 + w here: a factor on w is no factor on the gain, so no symmetry involves
a gain, and decay on `q_norm.weight` or `k_norm.weight` would pull the gain towards 1, not towards 0. The usual
policy spares them. `embed_tokens.weight` is also the head. It is decayed for real, in both uses: its share of the
stream and the size of the logits shrink, and no rescaling of other parameters makes up for it. `gate_proj.weight`,
in front of a GELU, is decayed for real.""",
        verdicts={
            **dict.fromkeys(_POST_NORMED, "invariant, o i -> ()"),
            "q_proj.weight": "invariant, (g o) i -> g  g=2",
            "q_norm.weight": "variant",
            "k_norm.weight": "variant",
            "embed_tokens.weight": "variant",
            "gate_proj.weight": "variant",
        },
        symmetries=(
            f"rescale: {_ATTENTION}v_proj.weight[i] × α, {_ATTENTION}o_proj.weight[:, i] × α^-1  (8 of them)",
            f"rescale: {_MLP}up_proj.weight[i] × α, {_MLP}down_proj.weight[:, i] × α^-1  (12 of them)",
        ),
        neutral=(_POST_NORMED, *((name,) for name in _POST_NORMED)),
        real=(("embed_tokens.weight",), ("gate_proj.weight",), ("q_norm.weight",)),
        unmoved=("embed_tokens.weight", "q_norm.weight", "k_norm.weight"),
        spared=("q_norm.weight", "k_norm.weight"),
    ),
    Section(
        title="Qwen3",
        code=_LM.format(name="Qwen3", config="Qwen3", options=", num_key_value_heads=1, head_dim=8"),
        shown=("model.embed*", f"{_ATTENTION}*", f"{_MLP}*"),
        explained=(f"{_ATTENTION}q_norm.weight", f"{_MLP}up_proj.weight"),
        text="""\
`q_proj.weight` and `k_proj.weight` are invariant head by head; the temperature of the attention is in
`q_norm.weight` and `k_norm.weight`, which trade scale with each other for every pair of channels that the rotary
embedding mixes, and which the usual policy spares. All else is as in StableLM: a joint set of
`embed_tokens.weight`, `o_proj.weight` and `down_proj.weight`, in which `v_proj.weight` and `up_proj.weight` may
stand in for the last two. Decay on one set leaves the loss as it is; decay on all five shrinks the branches
relative to the embedding. `gate_proj.weight` and `lm_head.weight` are decayed for real. This is a model built with
an untied head; with a tied one the joint set is lost, as in Cohere below.""",
        verdicts={
            "q_proj.weight": "invariant, (g o) i -> g  g=2",
            "k_proj.weight": "invariant, o i -> ()",
            "q_norm.weight": "variant",
            "k_norm.weight": "variant",
            "embed_tokens.weight": "joint",
            "o_proj.weight": "joint",
            "down_proj.weight": "joint",
            "v_proj.weight": "joint",
            "up_proj.weight": "joint",
            "gate_proj.weight": "variant",
            "lm_head.weight": "variant",
        },
        symmetries=(f"rescale: {_ATTENTION}q_norm.weight[i] × α, {_ATTENTION}k_norm.weight[i] × α^-1  (4 of them)",),
        neutral=(
            _STREAM,
            ("embed_tokens.weight", "v_proj.weight", "up_proj.weight"),
            ("q_proj.weight", "k_proj.weight"),
        ),
        real=((*_STREAM, "v_proj.weight", "up_proj.weight"), ("gate_proj.weight",), ("lm_head.weight",)),
        spared=("q_norm.weight", "k_norm.weight"),
    ),
    Section(
        title="Cohere with qk-norm",
        code=_LM.format(name="Cohere", config="Cohere", options=", num_key_value_heads=1, use_qk_norm=True"),
        shown=("model.embed*", f"{_BLOCK}*", "model.norm.weight"),
        explained=("model.embed_tokens.weight",),
        text="""\
Only `q_proj.weight` and `k_proj.weight` are invariant, head by head. The table `embed_tokens.weight` is also the
head, so scaling what writes to the stream, `embed_tokens.weight`, `o_proj.weight` and `down_proj.weight`, scales
the logits. There is no joint set: the symmetry is a rescaling that pays with `model.norm.weight` × 1/α. Decay on
the three is therefore a real penalty. Multiplying them by c multiplies all logits by c and changes nothing else.
But `model.norm.weight`, which the usual policy spares, can undo it by growing. Decay on `v_proj.weight` and
`up_proj.weight` shrinks the two branches relative to the embedding, and `gate_proj.weight` is decayed for real.""",
        verdicts={
            "q_proj.weight": "invariant, (g o) i -> g  g=2",
            "k_proj.weight": "invariant, o i -> ()",
            "embed_tokens.weight": "variant",
            "o_proj.weight": "variant",
            "down_proj.weight": "variant",
            "model.norm.weight": "variant",
            "v_proj.weight": "variant",
            "up_proj.weight": "variant",
            "gate_proj.weight": "variant",
        },
        symmetries=(
            f"rescale: model.embed_tokens.weight × α, {_ATTENTION}o_proj.weight × α, {_MLP}down_proj.weight × α, "
            "model.norm.weight × α^-1",
        ),
        neutral=(("q_proj.weight", "k_proj.weight"),),
        real=(_STREAM, ("v_proj.weight", "up_proj.weight"), ("gate_proj.weight",)),
        spared=("model.norm.weight",),
    ),
    Section(
        title="Swin-V2 (timm)",
        code="""\
options = dict(img_size=32, patch_size=4, window_size=4, embed_dim=16, depths=(1,), num_heads=(2,))
model = SwinTransformerV2(**options, num_classes=5)
report = autogroup.analyze(model, kwargs=image)
autogroup.print_table(report)
""",
        inputs="image",
        shown=("patch_embed.proj.*", "layers.0.blocks.0.attn.[lqpv]*", "layers.0.blocks.0.mlp.fc2.*"),
        explained=("layers.0.blocks.0.attn.qkv.weight",),
        text="""\
Queries and keys are divided by their norms, and a LayerNorm follows each branch, so most scales are gone, but a bias
keeps its weight from being invariant alone. Keys have none (timm adds a buffer that stays zero), so the key rows
16:32 of `qkv.weight` are invariant head by head, and decay only sets their effective learning rate. The pairs are
`attn.proj.weight` with `attn.proj.bias`,
`mlp.fc2.weight` with `mlp.fc2.bias`, `patch_embed.proj.weight` with `patch_embed.proj.bias`, and `q_bias` with the
query rows of `qkv.weight`, head by head. The usual policy decays the weight of each pair and spares the bias: a
real penalty, at which the bias wins; decay on both sets an effective learning rate only. The value rows of
`qkv.weight`, `v_bias` and `attn.proj.bias` are such a set as well. The temperature of the attention is `logit_scale`,
which the usual policy spares.""",
        verdicts={
            "attn.proj.weight": "joint, o i -> ()",
            "attn.proj.bias": "joint, c -> ()",
            "mlp.fc2.weight": "joint, o i -> ()",
            "mlp.fc2.bias": "joint, c -> ()",
            "patch_embed.proj.weight": "joint, o i h w -> ()",
            "patch_embed.proj.bias": "joint, c -> ()",
            "q_bias": "joint, (g c) -> g  g=2",
            "qkv.weight": "partial, o i -> 2 blocks of rows 16:32",
            "v_bias": "variant",
            "logit_scale": "variant",
        },
        symmetries=(
            "joint scale: layers.0.blocks.0.attn.q_bias[i] × α, "
            "layers.0.blocks.0.attn.qkv.weight[0:16] × α  (2 of them)",
            "joint scale: layers.0.blocks.0.mlp.fc2.weight × α, layers.0.blocks.0.mlp.fc2.bias × α",
        ),
        neutral=(
            ("attn.proj.weight", "attn.proj.bias"),
            ("mlp.fc2.weight", "mlp.fc2.bias"),
            ("patch_embed.proj.weight", "patch_embed.proj.bias"),
            ("q_bias", "qkv.weight[0:16]"),
            ("qkv.weight[16:32]",),
            ("qkv.weight[32:48]", "v_bias", "attn.proj.bias"),
        ),
        real=(
            ("attn.proj.weight",),
            ("mlp.fc2.weight",),
            ("patch_embed.proj.weight",),
            ("qkv.weight[0:16]",),
            ("qkv.weight[32:48]",),
            ("qkv.weight", "q_bias"),
        ),
        spared=("attn.proj.bias", "mlp.fc2.bias", "patch_embed.proj.bias", "q_bias", "v_bias", "logit_scale"),
    ),
    Section(
        title="ConvNeXt (timm)",
        code="""\
model = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=5)
large = {"x": torch.zeros(2, 3, 128, 128)}
report = autogroup.analyze(model, kwargs=large)
autogroup.print_table(report)
""",
        inputs="large",
        shown=("stem.*", "stages.0.blocks.0.*"),
        explained=("stages.0.blocks.0.conv_dw.weight",),
        text="""\
All convolutions have biases, so nothing is invariant alone. Two kinds of pairs are jointly so: `stem.0.weight` with
`stem.0.bias`, and `conv_dw.weight` with `conv_dw.bias` in every block. Decay on both members sets the effective
learning rate of the pair. The usual policy spares the bias: as the kernel shrinks, the LayerNorm behind it sees
more of the bias, a real penalty. The residual stream of the first stage begins at a norm: `stem.1.weight` and
`stem.1.bias`, a gain and a shift, form a joint set with the layer scale `stages.0.blocks.0.gamma` and, so that the
norm inside the branch sees the same, `stages.0.blocks.0.conv_dw.bias`. None of these is decayed by the usual
policy. The layer scale may be replaced in the set by `stages.0.blocks.0.mlp.fc2.weight` with
`stages.0.blocks.0.mlp.fc2.bias`, since only their product counts: decay on `stages.0.blocks.0.mlp.fc2.weight` is a
penalty that an undecayed gamma can make up for. `stages.0.blocks.0.mlp.fc1.weight`, in front of a GELU, is decayed
for real.""",
        verdicts={
            "stem.0.weight": "joint, o i h w -> ()",
            "stem.0.bias": "joint, c -> ()",
            "conv_dw.weight": "joint, o i h w -> ()",
            "conv_dw.bias": "joint, c -> ()",
            "stem.1.weight": "joint",
            "stem.1.bias": "joint",
            "stages.0.blocks.0.gamma": "joint",
            "stages.0.blocks.0.conv_dw.bias": "joint",
            "stages.0.blocks.0.mlp.fc2.weight": "joint",
            "stages.0.blocks.0.mlp.fc2.bias": "joint",
            "stages.0.blocks.0.mlp.fc1.weight": "variant",
        },
        symmetries=(
            "rescale: stages.0.blocks.0.gamma[i] × α, stages.0.blocks.0.mlp.fc2.weight[i] × α^-1, "
            "stages.0.blocks.0.mlp.fc2.bias[i] × α^-1  (8 of them)",
        ),
        neutral=(
            ("stem.0.weight", "stem.0.bias"),
            ("stages.0.blocks.0.conv_dw.weight", "stages.0.blocks.0.conv_dw.bias"),
            ("stem.1.weight", "stem.1.bias", "stages.0.blocks.0.gamma", "stages.0.blocks.0.conv_dw.bias"),
            (
                *("stem.1.weight", "stem.1.bias", "stages.0.blocks.0.conv_dw.bias"),
                *("stages.0.blocks.0.mlp.fc2.weight", "stages.0.blocks.0.mlp.fc2.bias"),
            ),
        ),
        real=(
            ("stem.0.weight",),
            ("stages.0.blocks.0.conv_dw.weight",),
            ("stages.0.blocks.0.mlp.fc2.weight",),
            ("stages.0.blocks.0.mlp.fc1.weight",),
        ),
        spared=("stem.0.bias", "conv_dw.bias", "stem.1.weight", "stem.1.bias", "gamma"),
    ),
)
