"""The three ways to run one rule: on tensors, on columns of tensors, compiled. The rule is the same object in all."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from optimizers._compile import Compiler
from optimizers._foreach import BlocksList, Number, TensorList
from optimizers._hyper import Hyper
from optimizers._rows import Row, arranged
from optimizers._slots import compute_dtype

Rule = Callable[..., None]

CHUNK_ON_CPU = 2**17
"""Largest number of elements that an eager rule gets at once on a CPU: with its temporaries it stays in cache."""
CHUNK_COMPILED = 2**20
"""The same for a compiled rule, which has no temporaries: what it reads a second time is still in cache."""
CHUNK_ON_ACCELERATOR = 2**26
"""The same on an accelerator, where it bounds the peak memory of the temporaries."""
SMALL = 2**14
"""Tensors of fewer elements are laid end to end before a rule sees them."""


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
    """Apply the rule to one tensor after the other: pieces of large ones, bundles of small ones."""
    for row in arranged(rows, _eager_chunk, SMALL):
        work = row.load()
        rule(*work, Hyper(row.blocks, row.flags, {**row.values, **shared.near(row.p)}))
        row.store(work)


def run_compiled(rule: Rule, rows: Iterable[Row], shared: Shared, compiler: Compiler) -> None:
    """Apply the compiled rule to one tensor after the other: pieces of large ones, bundles of small ones."""
    for row in arranged(rows, _compiled_chunk, SMALL):
        work = row.load()
        compiler.run(rule, work, row.blocks, row.flags, row.values, shared.near(row.p))
        row.store(work)
    compiler.forget_numbers()


def run_foreach(rule: Rule, rows: Iterable[Row], shared: Shared) -> None:
    """Apply the rule to columns of tensors, chunk by chunk."""
    buckets: defaultdict[object, list[Row]] = defaultdict(list)
    for row in rows:
        for piece in row.as_matrix().pieces(_eager_chunk(row.p)):
            buckets[_bucket(piece)].append(piece)
    for bucket in buckets.values():
        for chunk in _chunks(bucket):
            work = [row.load() for row in chunk]
            columns = [None if column[0] is None else TensorList(column) for column in zip(*work, strict=True)]  # type: ignore[arg-type]
            rule(*columns, _merge(chunk, shared))
            for row, tensors in zip(chunk, work, strict=True):
                row.store(tensors)


def _eager_chunk(p: Tensor) -> int:
    return CHUNK_ON_CPU if p.device.type == "cpu" else CHUNK_ON_ACCELERATOR


def _compiled_chunk(p: Tensor) -> int:
    return CHUNK_COMPILED if p.device.type == "cpu" else CHUNK_ON_ACCELERATOR


def _bucket(row: Row) -> tuple[object, ...]:
    """Return what rows must share to be columns of one foreach call."""
    p, layout = row.p, (getattr(row.p, "device_mesh", None), getattr(row.p, "placements", None))
    present = tuple(x is not None for x in row.slots)
    return p.device, compute_dtype(p.dtype), layout, row.blocks.elementwise, present, tuple(row.flags.items())


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    budget = _eager_chunk(rows[0].p)
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
