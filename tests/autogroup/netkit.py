"""The pieces of which the tables of small networks are made: what a case is and how to write one down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from autogroup.partition import OUTSIDE, Partition


@dataclass(frozen=True)
class Expected:
    """What the analysis must say of one parameter: one of ``verdicts``, over exactly ``partition(shape)``."""

    verdicts: frozenset[str]
    build: Callable[[tuple[int, ...]], Partition] | None = None

    def partition(self, shape: tuple[int, ...]) -> Partition | None:
        return self.build(shape) if self.build else None

    @property
    def claims(self) -> bool:
        return self.build is not None


def per(*dims: int, groups: int | None = None) -> Expected:
    """Invariant, one block per index of ``dims``, the first cut into ``groups``; ``per()`` is the whole tensor."""
    return Expected(frozenset({"invariant"}), lambda shape: Partition.from_dims(shape, dims, groups))


def along0(*labels: int) -> Expected:
    """One label per index of dim 0: equal labels share a block, -1 belongs to none (then it is ``partial``)."""

    def build(shape: tuple[int, ...]) -> Partition:
        assert len(labels) == shape[0]
        return Partition(shape, torch.tensor(labels).view(-1, *[1] * (len(shape) - 1)))

    return Expected(frozenset({"partial" if OUTSIDE in labels else "invariant"}), build)


def runs(*lengths: int) -> Expected:
    """Contiguous blocks of dim 0 of these lengths; a negative length is a stretch that is not invariant."""
    labels: list[int] = []
    for block, length in enumerate(lengths):
        labels += [block if length > 0 else OUTSIDE] * abs(length)
    return along0(*labels)


NOT = Expected(frozenset({"variant", "joint", "unknown"}))
"""Not invariant alone. Which of the three verdicts it gets is no part of the mathematics of one parameter."""
DEAD = Expected(frozenset({"dead"}))
UNUSED = Expected(frozenset({"unused"}))


@dataclass(frozen=True)
class Case:
    """A small network with the exact answer for each of its parameters.

    Args:
        name: id in the tests; by convention what the network does, not what it is called elsewhere.
        build: makes a fresh module.
        args: example inputs.
        expected: parameter → answer; every parameter has one.
        mode: "train" or "eval".
        known_missing: parameter → why the analysis does not (yet) find what is true.
        oracle_differs: parameter → why the numeric truth is not the right answer.
    """

    name: str
    build: Callable[[], nn.Module]
    args: tuple[Any, ...]
    expected: Mapping[str, Expected]
    mode: str = "train"
    known_missing: Mapping[str, str] = field(default_factory=dict)
    oracle_differs: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


class Net(nn.Module):
    """A module made of named parts and a function ``forward(self, *inputs)``; plain tensors become buffers."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module | nn.Parameter | Tensor) -> None:
        super().__init__()
        self._run = forward
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self._run(self, *inputs)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def parameter(*shape: int) -> nn.Parameter:
    """A random parameter; positive, so that it can be a scale."""
    return nn.Parameter(torch.rand(*shape) + 0.5)


def conv(inputs: int, outputs: int, kernel: int = 1, **options: Any) -> nn.Conv2d:
    """A convolution without bias unless asked for."""
    return nn.Conv2d(inputs, outputs, kernel, **{"bias": False, **options})


def linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """A linear layer without bias unless asked for."""
    return nn.Linear(inputs, outputs, bias=bias)


IMAGE = torch.zeros(4, 2, 5, 5)
TOKENS = torch.zeros(2, 5, 6)
ROWS = torch.zeros(7, 3)
IDS = torch.tensor([[0, 1, 2, 3, 4], [5, 4, 3, 1, 0], [2, 2, 5, 1, 3]])
"""Every id of a vocabulary of six."""
