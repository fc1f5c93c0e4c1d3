"""`Row`: one parameter in one step, seen as a matrix [blocks, block size], and cut or bundled to a size that pays.

Large tensors are cut between blocks, so that the temporaries of a rule stay in cache. Small ones are laid end to end,
so that a rule is not called once for each of a hundred biases. Neither changes a result, because blocks do not know of
each other, unless a rule looks at whole tensors: then it sets the flag ``whole``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers._math import Blocks, Cut
from optimizers._slots import compute_dtype

Columns = list[Tensor | None]


@dataclass(slots=True)
class Row:
    """One parameter in one step: its tensors at rest, its partition, its numbers and its flags."""

    p: Tensor
    g: Tensor
    slots: Columns
    blocks: Blocks
    values: dict[str, float]
    flags: dict[str, bool]

    def load(self) -> Columns:
        """Return p, g and the slots as the rule wants them: in the dtype of the arithmetic, cut dims unpacked."""
        dtype = compute_dtype(self.p.dtype)
        slots = [x if x is None else self._unpack(x).to(dtype) for x in self.slots]
        return [self.p.to(dtype), self.g.to(dtype), *slots]

    def store(self, work: Sequence[Tensor | None]) -> None:
        """Write back what `load` had to copy."""
        for home, value in zip(self.homes(), [work[0], *work[2:]], strict=True):
            if home is not None and value is not None and home is not value:
                home.copy_(value if home.shape == value.shape else self.blocks.pack(value))

    def homes(self) -> Columns:
        """Return the tensors that the rule changes."""
        return [self.p, *self.slots]

    def _unpack(self, x: Tensor) -> Tensor:
        return x if x.shape == self.p.shape or self.blocks.cut is None else self.blocks.unpack(x)

    def as_matrix(self) -> "Row":
        """Return views [blocks, block size] (one dim if every entry is its own block), or itself if memory forbids."""
        p, blocks = self.p, self.blocks
        if type(p) not in (Tensor, Parameter):  # subclasses, such as sharded tensors, have a layout of their own
            return self
        size = _matrix(tuple(p.shape), p.stride(), blocks.dims, blocks.cut)
        full = [x for x in (self.g, *self.slots) if x is not None and x.shape == p.shape]
        per_block = [x for x in self.slots if x is not None and x.shape != p.shape]
        if size is None or any(x.stride() != p.stride() for x in full):
            return self
        if any(x.shape != blocks.shape or not x.is_contiguous() for x in per_block):
            return self
        count = prod(blocks.shape)
        whole = ((count,), (1,)) if size == 1 else ((count, size), (size, 1))
        number = (count,) if size == 1 else (count, 1)

        def view(x: Tensor) -> Tensor:
            return x.as_strided(*whole, x.storage_offset()) if x.shape == p.shape else x.view(number)

        slots = [x if x is None else view(x) for x in self.slots]
        flat = Blocks(() if size == 1 else (1,), None, size, number)
        return Row(view(p), view(self.g), slots, flat, self.values, self.flags)

    def pieces(self, largest: int) -> Iterator["Row"]:
        """Cut a matrix between blocks into pieces of at most ``largest`` elements, but of one block at least."""
        if self.p.numel() <= largest or not self._is_matrix() or self.flags.get("whole"):
            yield self
            return
        blocks = self.blocks
        step = max(1, largest // blocks.size)
        columns = [x if x is None else x.split(step) for x in (self.p, self.g, *self.slots)]
        for i in range(len(columns[0] or ())):
            p, g, *slots = [x if x is None else x[i] for x in columns]
            assert p is not None and g is not None
            cut = Blocks(blocks.dims, None, blocks.size, (p.shape[0], *blocks.shape[1:]))
            yield Row(p, g, slots, cut, self.values, self.flags)

    def _is_matrix(self) -> bool:
        dims = self.blocks.dims
        return (
            self.p.ndim == 1 + len(dims) and dims in ((), (1,)) and self.blocks.cut is None and type(self.p) is Tensor
        )

    def bundle_key(self) -> object:
        """Return what small rows must share to be laid end to end; ``None`` if this one cannot be."""
        if not self._is_matrix() or self.flags.get("whole") or (self.blocks.dims and self.p.shape[0] == 1):
            return None
        kinds = tuple(None if x is None else x.dtype for x in (self.p, self.g, *self.slots))
        return self.p.device, kinds, self.blocks.size, tuple(self.values.values()), tuple(self.flags.items())


@dataclass(slots=True)
class Bundle(Row):
    """Small rows laid end to end."""

    parts: Sequence[Row] = ()

    def load(self) -> Columns:
        """Return the columns of all parts, concatenated."""
        columns = zip(*(part.load() for part in self.parts), strict=True)
        return [None if column[0] is None else torch.cat(column) for column in columns]  # pyright: ignore

    def store(self, work: Sequence[Tensor | None]) -> None:
        """Write back to the parts."""
        lengths = [len(part.p) for part in self.parts]
        homes = zip(*(part.homes() for part in self.parts), strict=True)
        for home, value in zip(homes, [work[0], *work[2:]], strict=True):
            if value is not None:
                torch._foreach_copy_(home, value.split(lengths))  # pyright: ignore


def arranged(rows: Iterable[Row], largest: Callable[[Tensor], int], small: int) -> Iterator[Row]:
    """Yield the rows as matrices where possible: large ones in pieces, those of fewer than ``small`` elements bundled.

    Args:
        rows: parameters in one step.
        largest: the number of elements that a piece or a bundle of such tensors may have.
        small: what counts as small.
    """
    waiting: defaultdict[object, list[Row]] = defaultdict(list)
    for row in rows:
        matrix = row.as_matrix()
        key = matrix.bundle_key() if matrix.p.numel() < small else None
        if key is None:
            yield from matrix.pieces(largest(row.p))
        else:
            waiting[key].append(matrix)
    for parts in waiting.values():
        yield from _bundles(parts, largest(parts[0].p))


def _bundles(parts: list[Row], largest: int) -> Iterator[Row]:
    bundle: list[Row] = []
    used = 0
    for part in parts:
        if bundle and used + part.p.numel() > largest:
            yield _bundle(bundle)
            bundle, used = [], 0
        bundle.append(part)
        used += part.p.numel()
    yield _bundle(bundle)


def _bundle(parts: list[Row]) -> Row:
    first, blocks = parts[0], parts[0].blocks
    if len(parts) == 1:
        return first
    count = sum(len(part.p) for part in parts)
    joined = Blocks(blocks.dims, None, blocks.size, (count, *blocks.shape[1:]))
    return Bundle(first.p, first.g, first.slots, joined, first.values, first.flags, parts)


@cache
def _matrix(shape: tuple[int, ...], stride: tuple[int, ...], dims: tuple[int, ...], cut: Cut | None) -> int | None:
    """Return the block size if blocks lie one behind the other in memory, each without gaps."""
    order = sorted((d for d, n in enumerate(shape) if n != 1), key=lambda d: -stride[d])
    dense = 1
    for d in reversed(order):
        if stride[d] != dense:
            return None
        dense *= shape[d]
    kept = [d for d in order if d not in dims]
    # The index of the block comes first, in the order in which slots with one number per block count.
    blocks_first = kept == order[: len(kept)] == sorted(kept) and (cut is None or kept[-1] == cut.dim)
    if (dims or cut) and not blocks_first:
        return None
    inner = prod(shape[d] for d in dims)
    return inner * cut.length if cut else inner
