"""Tiny configurations of transformers architectures: two layers, width 32, two key heads for four query heads."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

WIDTH, HEADS, LAYERS, VOCABULARY = 32, 4, 2, 99

_SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim", "word_embed_proj_dim", "embedding_size"), WIDTH),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "ffn_dim"), 2 * WIDTH),
    **dict.fromkeys(("ffn_hidden_size",), 2 * WIDTH),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer", "num_layers"), LAYERS),
    **dict.fromkeys(("num_decoder_layers",), LAYERS),
    **dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads"), HEADS),
    **dict.fromkeys(("n_head", "num_heads"), HEADS),
    **dict.fromkeys(("head_dim", "d_kv", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("max_source_positions", "max_target_positions", "image_size", "moe_intermediate_size"), 32),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "num_mel_bins", "num_conv_pos_embeddings"), 16),
    **dict.fromkeys(("n_shared_experts", "first_k_dense_replace", "n_group", "topk_group"), 1),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "vocab_size": VOCABULARY,
    "rotary_dim": 4,
    "patch_size": 8,
    "state_size": 4,
    "conv_dim": (WIDTH,) * 3,
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embedding_groups": 4,
}

_NO_RANDOMNESS = dict.fromkeys(
    (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "attention_dropout",
        "dropout",
        "hidden_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "activation_dropout",
        "layerdrop",
        "encoder_layerdrop",
        "decoder_layerdrop",
    ),
    0.0,
)

_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "use_cache": False}

COMMON: Mapping[str, Any] = {**_SIZES, **_NO_RANDOMNESS, **_TOKENS}
"""Every option that some configuration has; each takes those it knows."""

_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "patch_size": 4, "image_size": 32}
_FOUR_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_PYRAMID = {**_FOUR_STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": 64}
_CONV_STAGES = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1]}
_RESNET = {"embedding_size": 8, "hidden_sizes": [16, 16, 16, 16], "depths": [1, 1, 1, 1]}

OWN: Mapping[str, dict[str, Any]] = {
    "Bit": {"embedding_size": 32, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1], "num_groups": 8},
    "Cohere": {"use_qk_norm": True},
    "ConvNext": _CONV_STAGES,
    "ConvNextV2": _CONV_STAGES,
    "Cvt": {"embed_dim": [8, 16, 16], "depth": [1, 1, 1], "num_heads": [1, 2, 2]},
    "Dbrx": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DeepseekV3": {"num_key_value_heads": 4},
    "EfficientNet": {"image_size": 64},
    "FocalNet": {
        "embed_dim": 16,
        "depths": [1, 1],
        "focal_levels": [2, 2],
        "focal_windows": [3, 3],
        "hidden_sizes": [16, 32],
        "image_size": 32,
        "patch_size": 4,
    },
    "Funnel": {"block_sizes": [1, 1], "d_head": 8, "d_inner": 64},
    "GPTNeo": {"attention_types": [[["global", "local"], 1]], "hidden_size": 32, "num_layers": 2},
    "Gemma3Text": {"num_hidden_layers": 6},
    "Hiera": {
        "embed_dim": 16,
        "image_size": [32, 32],
        "depths": [1, 1],
        "num_heads": [1, 2],
        "num_query_pool": 1,
        "masked_unit_size": [2, 2],
        "patch_size": [7, 7],
        "patch_stride": [4, 4],
        "patch_padding": [3, 3],
    },
    "Levit": {
        "image_size": 64,
        "hidden_sizes": [16, 32, 32],
        "num_attention_heads": [2, 2, 2],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
        "patch_size": 16,
    },
    "Mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8, "expand": 2},
    "MobileBert": {"intra_bottleneck_size": 32, "true_hidden_size": 32},
    "MobileNetV1": {"image_size": 64},
    "MobileNetV2": {"image_size": 64},
    "MobileViT": {
        "hidden_sizes": [16, 16, 16],
        "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
        "image_size": 64,
        "patch_size": 2,
    },
    "ModernBert": {"local_attention": 8},
    "Persimmon": {"qk_layernorm": True},
    "PoolFormer": _FOUR_STAGES,
    "PvtV2": _PYRAMID,
    "RecurrentGemma": {"lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 3},
    "RegNet": {**_RESNET, "groups_width": 4},
    "ResNet": _RESNET,
    "Segformer": _PYRAMID,
    "SqueezeBert": {"embedding_size": 32},
    "StableLm": {"qk_layernorm": True},
    "Swin": _SWIN,
    "Swinv2": _SWIN,
    "Van": _FOUR_STAGES,
    "XLNet": {"d_inner": 64},
}
"""Options that one configuration needs on top of, or instead of, the common ones."""

_HIERARCHICAL = ("num_attention_heads", "num_hidden_layers", "num_layers", "hidden_size")
WITHOUT: Mapping[str, tuple[str, ...]] = {
    "Bit": ("hidden_size",),
    "Dbrx": ("num_attention_heads",),
    "FocalNet": ("hidden_size",),
    "Mamba": ("conv_kernel",),
    "Mamba2": ("conv_kernel",),
    "Swin": _HIERARCHICAL,
    "Swinv2": _HIERARCHICAL,
}
"""Common options that a configuration has under the same name with another meaning."""

_HEADS_OF_TASK = {
    "text": ("ForCausalLM", "ForMaskedLM", "LMHeadModel", "Model"),
    "vision": ("ForImageClassification", "Model"),
    "seq": ("ForConditionalGeneration", "MTModel", "Model"),
    "audio": ("ForSequenceClassification", "Model"),
}


def configure(name: str) -> Any:
    """Return the tiny configuration called ``name``, e.g. "Bert"."""
    import transformers

    config_class = getattr(transformers, name + "Config")
    own = OWN.get(name, {})
    known, defaults = set(inspect.signature(config_class.__init__).parameters), None
    with suppress(Exception):  # some configurations cannot be made without arguments
        defaults = config_class()
        known |= set(defaults.to_dict()) | set(getattr(config_class, "attribute_map", {}))
    options: dict[str, Any] = {}
    for key, value in COMMON.items():
        if key not in known or key in WITHOUT.get(name, ()):
            continue
        default = getattr(defaults, key, None)
        fits = default is None or isinstance(default, list | tuple) == isinstance(value, list | tuple)
        if fits or key in own:
            options[key] = value
    config = config_class(**{**options, **own})
    for key in ("_attn_implementation", "_experts_implementation"):
        with suppress(Exception):  # not every version and architecture has these switches
            setattr(config, key, "eager")
    return config


def build(name: str, dtype: torch.dtype) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return ``(model, (), kwargs)`` for ``task:ConfigName``."""
    import transformers

    task, short = name.split(":")
    config = configure(short)
    names = (short + suffix for suffix in _HEADS_OF_TASK[task])
    model_class: Any = next((getattr(transformers, name) for name in names if hasattr(transformers, name)), None)
    if model_class is None:
        model_class = transformers.AutoModel._model_mapping[type(config)]
    torch.manual_seed(0)
    model = model_class(config).to(dtype)
    with suppress(Exception):
        model.set_experts_implementation("eager")
    return model, (), _inputs(task, short, config, dtype)


def _inputs(task: str, name: str, config: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)

    def words(length: int) -> Tensor:
        return torch.randint(3, VOCABULARY, (2, length), generator=generator)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype, generator=generator)

    if task == "text":
        return {"input_ids": words(16), "attention_mask": torch.ones(2, 16, dtype=torch.long)}
    if task == "vision":
        size = getattr(config, "image_size", None) or 64
        size = size[0] if isinstance(size, list | tuple) else size
        return {"pixel_values": noise(3, 3, size, size)}
    if task == "audio":
        return {"input_values": noise(2, 2000)}
    target = {"decoder_input_ids": words(8)}
    if name == "Whisper":
        return {"input_features": noise(2, 16, 64), **target}
    if name == "Speech2Text":
        return {"input_features": noise(2, 32, config.input_feat_per_channel), **target}
    return {"input_ids": words(16), "attention_mask": torch.ones(2, 16, dtype=torch.long), **target}
