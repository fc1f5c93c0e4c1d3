"""Build a model of the zoo, with inputs small enough for a laptop and large enough to be typical.

Inputs avoid feature maps of one pixel, which would make weights invariant that are not so in use.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo import torchvision_ops

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]

LIBRARIES = {"tv": "torchvision", "timm": "timm", "hf": "transformers"}
"""Kind of a model → the library that holds it."""

_TIMM_SIZES = (64, 96, 128)
_VIDEO = ("r3d", "mc3", "r2plus1d", "s3d")
_FULL_SIZE = ("vit", "maxvit", "swin")
"""Torchvision models whose position tables or window sizes are made for images of 224."""


def missing_library(kind: str) -> str | None:
    """Return why models of this kind cannot be built here, or ``None``."""
    library = LIBRARIES[kind]
    return None if find_spec(library) else f"{library} is not installed"


def build(kind: str, name: str, dtype: torch.dtype = torch.float32) -> Built:
    """Return ``(model, args, kwargs)``; the model has random weights and the parameters' ``dtype``.

    Args:
        kind: "tv", "timm" or "hf".
        name: as in the truth file; for "hf" it is ``task:ConfigName``, e.g. ``text:Bert``.
        dtype: of the parameters and of floating inputs.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "hf":
            from tests.zoo import hf_models

            return hf_models.build(name, dtype)
        return _torchvision(name, dtype) if kind == "tv" else _timm(name, dtype)


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(5))


def _torchvision(name: str, dtype: torch.dtype) -> Built:
    torchvision_ops.declare()
    from torchvision import models

    builder = models.get_model_builder(name)
    backbone = {"weights_backbone": None} if "segmentation" in builder.__module__ else {}
    model = models.get_model(name, weights=None, **backbone).to(dtype)
    if any(word in name for word in _VIDEO):
        return model, (_random(2, 3, 16, 64, 64, dtype=dtype),), {}
    if "mvit" in name or "swin3d" in name:
        return model, (_random(1, 3, 16, 224, 224, dtype=dtype),), {}
    size = 299 if name == "inception_v3" else 224 if any(word in name for word in _FULL_SIZE) else 64
    return model, (_random(3, 3, size, size, dtype=dtype),), {}


def _timm(name: str, dtype: torch.dtype) -> Built:
    """Take the smallest image the model can be built for, or else the smallest it accepts."""
    torchvision_ops.declare()
    import timm

    error: Exception | None = None
    choices: tuple[dict[str, Any], ...] = (*({"img_size": size} for size in _TIMM_SIZES), {})
    for options in choices:
        try:
            model: Any = timm.create_model(name, pretrained=False, **options).to(dtype)
            break
        except Exception as failure:  # many models take no img_size, or only multiples of something
            error = failure
    else:
        raise RuntimeError(f"timm cannot build {name}") from error
    channels, _, own_size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    was_training = model.training
    for size in (options["img_size"],) if options else (*_TIMM_SIZES, own_size):
        try:
            with torch.no_grad():
                model.eval()(_random(2, channels, size, size, dtype=dtype))
        except Exception as failure:  # whatever a model raises on an image that is too small
            error = failure
        else:
            return model.train(was_training), (_random(3, channels, size, size, dtype=dtype),), {}
    raise RuntimeError(f"{name} accepts no image size") from error
