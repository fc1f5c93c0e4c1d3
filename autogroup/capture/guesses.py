"""Candidates for example inputs, from what a model says about itself and from its first layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCH = 2
TOKENS = 32
"""Length of a guessed token sequence."""
IMAGE_SIZES = (224, 64, 32, 28, 128, 256, 299, 384)
SERIES_LENGTHS = (1024, 16000, 128, 100)
VOLUME_SIZES = ((16, 112, 112), (16, 224, 224), (32, 32, 32), (16, 32, 32), (64, 64, 64))


@dataclass(frozen=True)
class Candidate:
    """One guess: how to call the model, and where the guess comes from."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    origin: str


def candidates(model: nn.Module) -> Iterator[Candidate]:
    """Yield guesses for a bare model, the best founded first."""
    yield from _from_transformers(model)
    yield from _from_timm(model)
    yield from _from_first_layer(model)


def _from_transformers(model: nn.Module) -> Iterator[Candidate]:
    """The main input that a transformers model names, built from its config, then its own dummy inputs."""
    config = getattr(model, "config", None)
    main = getattr(model, "main_input_name", None)
    if config is None or not isinstance(main, str):
        return
    make = _Maker(model, config)
    accepted = inspect.signature(model.forward).parameters
    names = [name for name in make.makers if name in accepted]
    required = {name for name, p in accepted.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    decoder = "decoder_input_ids" in accepted and bool(getattr(config, "is_encoder_decoder", False))
    wanted = {main, *(required & set(names)), *(("decoder_input_ids",) if decoder else ())}
    primary = {"input_ids", "pixel_values", "input_values", "input_features"}
    for chosen in (wanted, wanted | (primary & set(names))):
        kwargs = {name: make.makers[name]() for name in names if name in chosen}
        if kwargs:
            yield Candidate((), kwargs, f"the config of {type(model).__name__}")
    try:
        dummy: object = model.dummy_inputs
    except Exception:  # a property that any model may override
        return
    if isinstance(dummy, Mapping) and dummy:
        yield Candidate((), dict(dummy), f"dummy_inputs of {type(model).__name__}")


class _Maker:
    """Builds a tensor for each argument that transformers models commonly take."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        self._dtype = _dtype(model)
        self._config = config
        self.makers: dict[str, Callable[[], Tensor]] = {
            "input_ids": lambda: self._ids(TOKENS),
            "attention_mask": lambda: torch.ones(BATCH, TOKENS, dtype=torch.int64),
            "decoder_input_ids": lambda: self._ids(TOKENS // 2),
            "pixel_values": self._pixels,
            "input_values": lambda: _noise((BATCH, 16000), self._dtype),
            "input_features": self._features,
        }

    def _get(self, *names: str, default: int) -> int:
        """First whole number under one of ``names`` in the config or the configs inside it."""
        inner = [getattr(self._config, part, None) for part in ("text_config", "vision_config", "audio_config")]
        for source in (self._config, *inner):
            for name in names:
                value = getattr(source, name, None)
                if isinstance(value, list | tuple) and value:
                    value = value[0]
                if isinstance(value, int) and value > 0:
                    return value
        return default

    def _ids(self, length: int) -> Tensor:
        length = min(length, self._get("max_position_embeddings", "n_positions", default=length))
        return _ids(self._get("vocab_size", default=100), (BATCH, length))

    def _pixels(self) -> Tensor:
        size = self._get("image_size", "img_size", default=224)
        image = (self._get("num_channels", "in_channels", "in_chans", default=3), size, size)
        frames = self._get("num_frames", default=0)
        return _noise((BATCH, frames, *image) if frames else (BATCH, *image), self._dtype)

    def _features(self) -> Tensor:
        per_channel = self._get("input_feat_per_channel", default=0)
        if per_channel:
            return _noise((BATCH, 64, per_channel), self._dtype)
        bins, steps = self._get("num_mel_bins", default=80), self._get("max_source_positions", default=100)
        return _noise((BATCH, bins, 2 * steps), self._dtype)


def _from_timm(model: nn.Module) -> Iterator[Candidate]:
    """The input size that a timm model or a model with an ``image_size`` declares."""
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    for name in ("pretrained_cfg", "default_cfg"):
        declared = getattr(model, name, None)
        size = declared.get("input_size") if isinstance(declared, Mapping) else getattr(declared, "input_size", None)
        if isinstance(size, list | tuple) and len(size) == 3:
            yield Candidate((_noise((BATCH, *size), _dtype(model)),), {}, name)
            break
    for owner in (model, *model.children()):
        for name in ("image_size", "img_size"):
            size = getattr(owner, name, None)
            height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
            if isinstance(height, int) and isinstance(width, int):
                yield Candidate((_noise((BATCH, channels, height, width), _dtype(model)),), {}, name)


def _from_first_layer(model: nn.Module) -> Iterator[Candidate]:
    """Tensors that the first layer takes, repeated for every required argument of the forward."""
    count = _required_arguments(model)
    dtype = _dtype(model)
    for name, module in model.named_modules():
        tensors = list(_for_layer(module, dtype))
        if tensors:
            origin = f"the first layer, {type(module).__name__} {name!r}" if name else type(module).__name__
            yield from (Candidate((tensor,) * count, {}, origin) for tensor in tensors)
            return
    weight = next(((n, p) for n, p in model.named_parameters() if p.dim() > 0), None)
    if weight is not None:
        name, parameter = weight
        for shape in _feature_shapes(parameter.shape[-1]):
            yield Candidate((_noise(shape, dtype),) * count, {}, f"the last dim of the first parameter, {name!r}")


def _for_layer(module: nn.Module, dtype: torch.dtype) -> Iterator[Tensor]:
    """Inputs for one layer, with at least two samples, since batch norm refuses one."""
    shapes: list[tuple[int, ...]] = []
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            shapes = [(BATCH, module.in_channels, size, size) for size in IMAGE_SIZES]
        case nn.BatchNorm2d() | nn.InstanceNorm2d():
            shapes = [(BATCH, module.num_features, size, size) for size in (32, 224)]
        case nn.Conv1d() | nn.ConvTranspose1d():
            shapes = [(BATCH, module.in_channels, length) for length in SERIES_LENGTHS]
        case nn.Conv3d() | nn.ConvTranspose3d():
            shapes = [(BATCH, module.in_channels, *volume) for volume in VOLUME_SIZES]
        case nn.Linear():
            shapes = _feature_shapes(module.in_features)
        case nn.RNNBase():
            shapes = [(4, 8, module.input_size), (8, module.input_size)]
        case nn.MultiheadAttention():
            shapes = _feature_shapes(module.embed_dim)[::-1][1:]
        case nn.LayerNorm() | nn.RMSNorm():
            last = module.normalized_shape
            shapes = [(BATCH, TOKENS, *last), (4, *last)]
        case nn.BatchNorm1d():
            shapes = [(4, module.num_features), (4, module.num_features, TOKENS)]
        case nn.Embedding() | nn.EmbeddingBag():
            for ids in ((BATCH, TOKENS), (BATCH, 8), (TOKENS,)):
                yield _ids(module.num_embeddings, ids)
        case _:
            pass
    yield from (_noise(shape, dtype) for shape in shapes)


def _feature_shapes(features: int) -> list[tuple[int, ...]]:
    return [(4, features), (BATCH, 16, features), (BATCH, 8, 8, features)]


def _required_arguments(model: nn.Module) -> int:
    """Number of arguments that the forward cannot do without, at least one."""
    parameters = inspect.signature(model.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty]
    return max(1, sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in required))


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _noise(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def _ids(vocabulary: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(0))
