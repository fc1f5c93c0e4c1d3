"""Depth: layers are counted by data flow and nesting, whatever modules are called and however they are written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autogroup.capture import capture
from autogroup.infer.depth import depth
from autogroup.readers.exported import read_exported
from tests.zoo.build import build, missing_library

WIDTH = 8


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        memory = x if memory is None else memory
        q, k = (y.cos() * y + y.sin() * y.flip(-1) for y in (self.q(x), self.k(memory)))  # an addition, but no block
        return self.o(F.scaled_dot_product_attention(q, k, self.v(memory)))


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(), mlp()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.n1(x))
        return x + self.mlp(self.n2(x))


class Vit(nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.zeros(1, 5, WIDTH))
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Residual(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside)
        self.c2, self.b2 = nn.Conv2d(outside, outside, 3, padding=1), nn.BatchNorm2d(outside)
        self.short = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.short(x))


class Inverted(nn.Module):
    """Expand, filter, gate, project; a shortcut only where the shape stays."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.expand, self.filter = nn.Conv2d(inside, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze, self.gate, self.project = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1), nn.Conv2d(12, outside, 1)
        self.shortcut = inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.filter(F.relu(self.expand(x))))
        y = self.project(y * self.gate(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid())
        return x + y if self.shortcut else y


class Towers(nn.Module):
    """Branches side by side, put together by a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
        self.b = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x)], 1)


class Fork(nn.Module):
    """A stem, and a shortcut around two further convolutions, in one module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return torch.cat([x, self.b(self.a(x))], 1)


class Unet(nn.Module):
    """Blocks with shortcuts, and one long shortcut around them."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle, self.up = Residual(4, 6), Residual(6, 8), Residual(12, 4)
        self.back = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        return self.up(torch.cat([y, self.back(self.middle(y))], 1))


class Pair(nn.Module):
    """Two towers that look alike, but work side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()) for _ in range(2))
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(x), self.b(y)], 1))


class Sublayer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(WIDTH), inner

    def forward(self, x: Tensor, *memory: Tensor) -> Tensor:
        return x + self.inner(self.norm(x), *memory)


class EncoderDecoder(nn.Module):
    """As in T5: shortcuts inside of sublayers, and every decoder block reads what the encoder wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(11, WIDTH)
        self.encoder = nn.ModuleList(nn.ModuleList([Sublayer(Attention()), Sublayer(mlp())]) for _ in range(2))
        self.decoder = nn.ModuleList(
            nn.ModuleList([Sublayer(Attention()), Sublayer(Attention()), Sublayer(mlp())]) for _ in range(2)
        )
        self.out = nn.Linear(WIDTH, 11)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, y = self.shared(source), self.shared(target)
        for block in self.encoder:
            attention, feed = block.children()
            memory = feed(attention(memory))
        for block in self.decoder:
            attention, cross, feed = block.children()
            y = feed(cross(attention(y), memory))
        return self.out(y)


class PostNorm(nn.Module):
    """As in BERT: the attention has its shortcut inside, the rest of the block outside of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.up, self.down = Sublayer(Attention()), nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        return self.norm(x + self.down(F.gelu(self.up(x))))


class Shared(nn.Module):
    """As in ALBERT: one block, run three times."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(4, WIDTH), PostNorm(), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for _ in range(3):
            x = self.block(x)
        return self.head(x)


class Plain(nn.Module):
    """Layers as attributes, in another order than they run; one is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first, self.idle = nn.Linear(6, 2), nn.Linear(4, 6), nn.Linear(3, 3)
        self.middle, self.scale = nn.Linear(6, 6), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.middle(F.relu(self.first(x)) * self.scale)))


class Functional(nn.Module):
    """No submodules at all; the result is written into memory in place."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(2, 9))
        self.bias = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 9)
        hidden[:, 3:] = F.linear(x, self.w1, self.bias)
        return F.linear(hidden.relu(), self.w2)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(11, WIDTH), nn.Sequential(Block(), Block())
        self.place = nn.Embedding(6, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 11)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.place(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def depths(model: nn.Module, *inputs: Tensor) -> dict[str, int]:
    return depth(capture(model, inputs, {}))


def by_prefix(found: dict[str, int], *prefixes: str) -> list[set[int]]:
    """The depths that occur below each prefix."""
    return [{d for name, d in found.items() if name.startswith(prefix)} for prefix in prefixes]


IMAGE, WORDS = torch.zeros(2, 3, 8, 8), torch.zeros(2, 6, dtype=torch.int64)


def test_transformer_on_patches() -> None:
    found = depths(Vit(), IMAGE)
    places = by_prefix(found, "patches", "token", "position", "blocks.0", "blocks.1", "blocks.2", "norm", "head")
    assert places == [{0}, {0}, {0}, {1}, {2}, {3}, {3}, {4}]


def test_one_transformer_block_is_one_layer() -> None:
    assert by_prefix(depths(Vit(layers=1), IMAGE), "patches", "blocks.0", "head") == [{0}, {1}, {2}]


def test_residual_network() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    stages = nn.Sequential(nn.Sequential(Residual(4, 4), Residual(4, 4)), nn.Sequential(Residual(4, 8), Residual(8, 8)))
    model = nn.Sequential(stem, stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    found = depths(model, IMAGE)
    assert by_prefix(found, "0", "1.0.0", "1.0.1", "1.1.0", "1.1.1", "4") == [{0}, {1}, {2}, {3}, {4}, {5}]


def test_a_block_without_shortcut_counts_like_its_peers() -> None:
    stages = nn.Sequential(nn.Sequential(Inverted(4, 6)), nn.Sequential(Inverted(6, 8), Inverted(8, 8), Inverted(8, 8)))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), stages, nn.Flatten(), nn.Linear(288, 2))
    found = depths(model, IMAGE)
    assert by_prefix(found, "0", "1.0.0", "1.1.0", "1.1.1", "1.1.2", "3") == [{0}, {1}, {2}, {3}, {4}, {5}]


def test_a_container_beside_a_block_is_looked_into() -> None:
    stages = nn.Sequential(Residual(4, 4), nn.Sequential(Residual(4, 6), Residual(6, 8)))
    found = depths(nn.Sequential(nn.Conv2d(3, 4, 3), stages, nn.Conv2d(8, 1, 1)), IMAGE)
    assert by_prefix(found, "0", "1.0", "1.1.0", "1.1.1", "2") == [{0}, {1}, {2}, {3}, {4}]


def test_an_addition_inside_of_a_block_hides_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, WIDTH), Sublayer(Attention()), nn.Linear(WIDTH, 2))
    assert by_prefix(depths(model, torch.zeros(2, 5, 4)), "0", "1", "2") == [{0}, {1}, {2}]


def test_every_convolution_of_a_plain_stack_is_a_layer() -> None:
    convs = [(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(*(m for group in convs for m in group)))
    found = depths(model, IMAGE)
    assert by_prefix(found, "0", "1.0", "1.1", "1.3", "1.4", "1.6", "1.7") == [{0}, {1}, {1}, {2}, {2}, {3}, {3}]


def test_branches_that_meet_again_are_one_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(Towers(), Towers()), nn.Conv2d(4, 1, 1))
    assert by_prefix(depths(model, IMAGE), "0", "1.0", "1.1", "2") == [{0}, {1}, {2}, {3}]


def test_a_long_shortcut_hides_no_blocks() -> None:
    found = depths(nn.Sequential(nn.Conv2d(3, 4, 3), Unet(), nn.Conv2d(4, 1, 1)), IMAGE)
    assert by_prefix(found, "0", "1.down", "1.middle", "1.back", "1.up", "2") == [{0}, {1}, {2}, {3}, {4}, {5}]


def test_towers_side_by_side_are_no_sequence() -> None:
    found = depths(Pair(), torch.zeros(2, 4), torch.zeros(2, 4))
    assert by_prefix(found, "a.0", "a.2", "b.0", "b.2", "head") == [{0}, {1}, {0}, {1}, {2}]


def test_decoder_comes_after_the_encoder() -> None:
    found = depths(EncoderDecoder(), WORDS, WORDS)
    places = by_prefix(found, "shared", "encoder.0", "encoder.1", "decoder.0", "decoder.1", "out")
    assert places == [{0}, {1}, {2}, {3}, {4}, {5}]


def test_a_shared_block_is_one_layer() -> None:
    assert by_prefix(depths(Shared(), torch.zeros(2, 5, 4)), "embed", "block", "head") == [{0}, {1}, {2}]


def test_order_of_execution_not_of_definition() -> None:
    found = depths(Plain(), torch.zeros(2, 4))
    assert by_prefix(found, "first", "scale", "middle", "last", "idle") == [{0}, {0}, {1}, {2}, {0}]


def test_a_model_without_submodules() -> None:
    assert depths(Functional(), torch.zeros(2, 4)) == {"w1": 0, "w2": 1, "bias": 0}


def test_a_tied_weight_counts_where_it_is_first_used() -> None:
    found = depths(Tied(), WORDS)
    assert by_prefix(found, "embed", "place", "blocks.0", "blocks.1", "norm", "head.bias") == [
        {0},
        {0},
        {1},
        {2},
        {2},
        {3},
    ]


@pytest.mark.parametrize(("model", "inputs"), [(Vit(), IMAGE), (Fork(), IMAGE)])
def test_a_wrapper_changes_nothing(model: nn.Module, inputs: Tensor) -> None:
    bare, wrapped = depths(model, inputs), depths(nn.Sequential(model), inputs)
    assert {name.removeprefix("0."): d for name, d in wrapped.items()} == bare
    assert max(bare.values()) > 0


@pytest.mark.parametrize("build_model", [lambda: nn.Sequential(nn.ReLU()), lambda: nn.Sequential(nn.BatchNorm2d(3))])
def test_a_model_without_weights(build_model: Callable[[], nn.Module]) -> None:
    model = build_model()
    found = depths(model, IMAGE)
    assert found == dict.fromkeys(dict(model.named_parameters()), 0)


# What must not matter.


def test_names_do_not_matter() -> None:
    """Blocks in a dict under odd names have the depths that they have in a list."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head_7 = nn.Linear(4, WIDTH)
            self.things = nn.ModuleDict({"stem": Block(), "embed": Block(), "norm": Block()})
            self.patch_embed = nn.Linear(WIDTH, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.head_7(x)
            for block in self.things.values():
                x = block(x)
            return self.patch_embed(x)

    found = depths(Odd(), torch.zeros(2, 5, 4))
    places = by_prefix(found, "head_7", "things.stem", "things.embed", "things.norm", "patch_embed")
    assert places == [{0}, {1}, {2}, {3}, {4}]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(Vit(), (IMAGE,)), (EncoderDecoder(), (WORDS, WORDS)), (Tied(), (WORDS,)), (Shared(), (torch.zeros(2, 5, 4),))],
    ids=lambda value: type(value).__name__,
)
def test_an_exported_file_has_the_same_depths(tmp_path: Path, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    torch.export.save(torch.export.export(model, inputs), tmp_path / "model.pt2")
    assert depth(read_exported(tmp_path / "model.pt2")) == depths(model, *inputs)


def test_the_length_of_a_model_shows() -> None:
    heights = [max(depths(Vit(layers), IMAGE).values()) for layers in range(1, 5)]
    assert [b - a for a, b in pairwise(heights)] == [1, 1, 1]


# Real models.

AGREES_WITH_TIMM = (
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "resnet26",
    "mixer_s32_224",
    "regnety_002",
)
HEIGHTS: dict[tuple[str, str], tuple[int, int]] = {
    ("timm", "convnext_atto"): (12, 3),  # blocks, downsampling layers
    ("timm", "swin_tiny_patch4_window7_224"): (12, 3),
    ("timm", "efficientnet_b0"): (16, 1),  # the last one: convolution before the head
    ("tv", "resnet18"): (8, 0),
    ("tv", "vit_b_16"): (12, 0),
    ("hf", "text:Llama"): (2, 0),
    ("hf", "text:Mixtral"): (2, 0),
    ("hf", "text:Albert"): (1, 2),  # embedding projection, transform before the head
    ("hf", "text:Bert"): (2, 1),  # transform before the head
}
"""Model → (blocks, further layers) between the first layer and the head."""


def _built(kind: str, name: str) -> tuple[Any, dict[str, int]]:
    reason = missing_library(kind)
    if reason:
        pytest.skip(reason)
    model, args, kwargs = build(kind, name)
    return model, depth(capture(model, args, kwargs))


@pytest.mark.zoo
@pytest.mark.parametrize("name", AGREES_WITH_TIMM)
def test_the_same_layers_as_timm(name: str) -> None:
    model, found = _built("timm", name)
    from timm.models import group_parameters

    assert found == group_parameters(model, model.group_matcher(coarse=False), reverse=True)


@pytest.mark.zoo
@pytest.mark.parametrize(("kind", "name"), HEIGHTS)
def test_heights_of_real_models(kind: str, name: str) -> None:
    _, found = _built(kind, name)
    assert set(found.values()) == set(range(sum(HEIGHTS[kind, name]) + 2))
