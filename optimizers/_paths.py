"""The three ways to run one rule: per tensor, on columns of tensors, compiled. The rule is the same object in all."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optimizers._compile import Compiler
from optimizers._foreach import BlocksList, Number, TensorList
from optimizers._hyper import Hyper
from optimizers._math import Blocks
from optimizers._slots import compute_dtype

Rule = Callable[..., None]

CHUNK_ON_CPU = 2**15
CHUNK_ON_ACCELERATOR = 2**26
"""Largest number of elements that one foreach call takes from several tensors. On a CPU the temporaries of a chunk stay
in cache; on an accelerator this bounds the peak memory of the temporaries."""


@dataclass(slots=True)
class Row:
    """One parameter in one step: its tensors at rest, its partition, its numbers and its flags."""

    p: Tensor
    g: Tensor
    slots: list[Tensor | None]
    blocks: Blocks
    values: dict[str, float]
    flags: dict[str, bool]

    def load(self) -> list[Tensor | None]:
        """Return p, g and the slots as the rule wants them: in the dtype of the arithmetic, cut dims unpacked."""
        dtype = compute_dtype(self.p.dtype)
        slots = [x if x is None else self._unpack(x).to(dtype) for x in self.slots]
        return [self.p.to(dtype), self.g.to(dtype), *slots]

    def store(self, work: Sequence[Tensor | None]) -> None:
        """Write back what `load` had to copy."""
        for home, value in zip([self.p, *self.slots], [work[0], *work[2:]], strict=True):
            if home is not None and value is not None and home is not value:
                home.copy_(value if home.shape == value.shape else self.blocks.pack(value))

    def _unpack(self, x: Tensor) -> Tensor:
        return x if x.shape == self.p.shape or self.blocks.cut is None else self.blocks.unpack(x)

    def bucket(self) -> tuple[object, ...]:
        """Return what rows must share to be columns of one foreach call."""
        p, layout = self.p, (getattr(self.p, "device_mesh", None), getattr(self.p, "placements", None))
        present = tuple(x is not None for x in self.slots)
        return p.device, compute_dtype(p.dtype), layout, self.blocks.elementwise, present, tuple(self.flags.items())


@dataclass(slots=True)
class Shared:
    """Numbers of the whole model: 0-d tensors, so that no step waits for a device. Moved once per device and dtype."""

    numbers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    _local: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = field(default_factory=dict)  # type: ignore[arg-type]

    def near(self, p: Tensor) -> dict[str, Tensor]:
        """Return the numbers as the rule for ``p`` needs them."""
        key = p.device, compute_dtype(p.dtype)
        if key not in self._local:
            self._local[key] = {name: x.to(*key) for name, x in self.numbers.items()}
        return self._local[key]


def run_loop(rule: Rule, rows: Iterable[Row], shared: Shared) -> None:
    """Apply the rule to one tensor after the other."""
    for row in rows:
        work = row.load()
        rule(*work, Hyper(row.blocks, row.flags, {**row.values, **shared.near(row.p)}))
        row.store(work)


def run_compiled(rule: Rule, rows: Iterable[Row], shared: Shared, compiler: Compiler) -> None:
    """Apply the compiled rule to one tensor after the other."""
    for row in rows:
        work = row.load()
        compiler.run(rule, work, row.blocks, row.flags, row.values, shared.near(row.p))
        row.store(work)
    compiler.forget_numbers()


def run_foreach(rule: Rule, rows: Iterable[Row], shared: Shared) -> None:
    """Apply the rule to columns of tensors, chunk by chunk."""
    buckets: defaultdict[object, list[Row]] = defaultdict(list)
    for row in rows:
        buckets[row.bucket()].append(row)
    for bucket in buckets.values():
        for chunk in _chunks(bucket):
            work = [row.load() for row in chunk]
            columns = [None if column[0] is None else TensorList(column) for column in zip(*work, strict=True)]  # type: ignore[arg-type]
            rule(*columns, _merge(chunk, shared))
            for row, tensors in zip(chunk, work, strict=True):
                row.store(tensors)


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    budget = CHUNK_ON_CPU if rows[0].p.device.type == "cpu" else CHUNK_ON_ACCELERATOR
    chunk: list[Row] = []
    used = 0
    for row in rows:
        if chunk and used + row.p.numel() > budget:
            yield chunk
            chunk, used = [], 0
        chunk.append(row)
        used += row.p.numel()
    yield chunk


def _merge(rows: list[Row], shared: Shared) -> Hyper:
    """Return the numbers of all rows: one float where the rows agree, else a list."""
    first = rows[0]
    merged: dict[str, Number | Tensor] = {**shared.near(first.p)}
    for name, value in first.values.items():
        column = [row.values[name] for row in rows]
        merged[name] = value if all(x == value for x in column) else column
    return Hyper(BlocksList([row.blocks for row in rows]), first.flags, merged)
