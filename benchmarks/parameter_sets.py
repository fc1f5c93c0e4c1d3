"""Shapes of the parameters of well-known models, with the partition of those that a norm follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.nn import Parameter


@dataclass(frozen=True)
class ParameterSet:
    """A list of shapes. Those of ``blocks`` are scale-invariant, one block per index of dim 0."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    blocks: Callable[[tuple[int, ...]], bool]

    @property
    def elements(self) -> int:
        """Number of elements of all parameters."""
        return sum(prod(shape) for shape in self.shapes)

    def parameters(self, device: str) -> list[Parameter]:
        """Return new parameters with gradients."""
        generator = torch.Generator(device).manual_seed(0)
        params = [Parameter(torch.randn(s, generator=generator, device=device) * 0.02) for s in self.shapes]
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, device=device) * 1e-3
        return params

    def groups(self, params: Sequence[Parameter]) -> list[dict[str, Any]]:
        """Return groups as the analysis makes them: with the partition, and without."""
        inside = [p for p in params if self.blocks(tuple(p.shape))]
        others = [p for p in params if not self.blocks(tuple(p.shape))]
        groups = [{"params": inside, "channel_dims": (0,), "channel_groups": None}, {"params": others}]
        return [group for group in groups if group["params"]]


def _resnet50() -> Iterator[tuple[int, ...]]:
    def convolution(out: int, into: int, size: int) -> Iterator[tuple[int, ...]]:
        yield from ((out, into, size, size), (out,), (out,))  # with the gain and the shift of the norm behind it

    yield from convolution(64, 3, 7)
    into = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(count):
            yield from convolution(width, into, 1)
            yield from convolution(width, width, 3)
            yield from convolution(4 * width, width, 1)
            if i == 0:
                yield from convolution(4 * width, into, 1)
            into = 4 * width
    yield from ((1000, 2048), (1000,))


def _transformer(width: int, layers: int) -> Iterator[tuple[int, ...]]:
    for _ in range(layers):
        yield from ((width,), (width,), (3 * width, width), (3 * width,), (width, width), (width,))
        yield from ((width,), (width,), (4 * width, width), (4 * width,), (width, 4 * width), (width,))
    yield from ((width,), (width,))


def _is_convolution(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2


SETS = {
    s.name: s
    for s in (
        ParameterSet("resnet50", tuple(_resnet50()), _is_convolution),
        ParameterSet(
            "vit_b",
            ((1, 1, 768), (1, 197, 768), (768, 3, 16, 16), (768,), *_transformer(768, 12), (1000, 768), (1000,)),
            _is_matrix,
        ),
        ParameterSet("gpt2", ((50257, 768), (1024, 768), *_transformer(768, 12)), _is_matrix),
        ParameterSet("stack", ((4096, 4096),) * 4, _is_matrix),
    )
}
