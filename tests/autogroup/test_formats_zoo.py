"""Real models in every format that can hold them: the same report as from the live module."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autogroup import api
from autogroup.load import load
from tests.autogroup.test_formats import FORMATS, facts, report_of

pytestmark = [pytest.mark.zoo, pytest.mark.slow]


def resnet50() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from tests.zoo.build import build

    model, args, _ = build("tv", "resnet50")
    return model, args


def convnext() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from tests.zoo.build import build

    model, args, _ = build("timm", "convnext_atto")
    return model, args


def vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A vision transformer of timm that normalizes its queries and keys."""
    from tests.zoo import torchvision_ops

    torchvision_ops.declare()
    import timm

    model: Any = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, qk_norm=True, depth=4)
    return model, (torch.randn(2, 3, 64, 64),)


def qwen3() -> tuple[nn.Module, tuple[Tensor, ...]]:
    from tests.zoo import torchvision_ops

    torchvision_ops.declare()
    import transformers

    config = transformers.Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        use_cache=False,
        tie_word_embeddings=True,
        architectures=["Qwen3ForCausalLM"],
    )
    return transformers.Qwen3ForCausalLM(config), (torch.arange(24).view(2, 12),)


MODELS = {"resnet50": (resnet50, "torchvision"), "convnext": (convnext, "timm"), "vit": (vit, "timm")}
MODELS["qwen3"] = (qwen3, "transformers")
"""Name -> how it is built, and by which library."""

NOT_POSSIBLE = {("qwen3", "scripted"): "torch.jit.script does not compile transformers' code, which reads its config"}
"""Model and format that torch itself cannot bring together -> why."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_every_format_gives_the_report_of_the_real_model(tmp_path: Path, name: str, form: str) -> None:
    build, library = MODELS[name]
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    if (name, form) in NOT_POSSIBLE:
        pytest.skip(NOT_POSSIBLE[name, form])
    model, inputs = build()
    file, save, needs_architecture = FORMATS[form]
    save(model.train(), inputs, tmp_path / file)
    arch = None
    if needs_architecture:
        arch = f"{Path(__file__).with_name('test_formats_zoo.py')}:{name}"
        if name == "qwen3":
            model.config.save_pretrained(tmp_path)
            arch = f"hf:{tmp_path}"
    loaded = load(str(tmp_path / file), arch=arch)
    expected, found = facts(api.analyze(model, inputs)), facts(report_of(loaded, inputs))
    assert found == expected
