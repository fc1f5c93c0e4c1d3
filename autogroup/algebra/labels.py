"""Label tensors: which block of a parameter each position of a value scales with.

A label tensor has the value's number of axes and size 1 on every axis along which it is constant, so a
feature map [8, 256, 56, 56] whose channel c scales with block c is described by a [1, 256, 1, 1] tensor.
The same representation carries the ids of additive terms (``terms``) and masks of exact zeros.

Every function here takes and returns such tensors; none knows of parameters or operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor

INDEPENDENT = -1
"""Label of a position that does not scale with the parameter."""

ZERO_TERM = 0
"""Id of an additive term that is exactly zero."""

MAX_TERMS = 1 << 16
"""More distinct additive terms than this are not tracked: no norm cancels a term that varies everywhere."""

Shape = tuple[int, ...]


def squash(labels: Tensor) -> Tensor:
    """Cut axes that a view made constant (stride 0) back to size 1, without looking at the data."""
    for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True)):
        if size > 1 and stride == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def broadcast(*shapes: Shape) -> Shape:
    """The shape that shapes broadcast to; they are known to fit."""
    ndim = max(map(len, shapes))
    wide = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*wide, strict=True))


def align(labels: Tensor, ndim: int) -> Tensor:
    """Prepend axes of size 1, as broadcasting does."""
    return labels.view((1,) * (ndim - labels.dim()) + tuple(labels.shape)) if labels.dim() < ndim else labels


def run_view(op: Callable[[Tensor], Tensor], labels: Tensor, shape: Shape) -> Tensor:
    """Run a data-movement operator on the labels as if they had the value's full shape."""
    return squash(op(labels.expand(shape)))


def regroup(labels: Tensor, shape: Shape, new_shape: Shape) -> Tensor:
    """Reshape labels of a value of ``shape`` to ``new_shape``, expanding only the axes that must be."""
    sizes: list[int] = []
    new_sizes: list[int] = []
    split: list[int] = []
    for old_axes, new_axes in _matched_axes(shape, new_shape):
        if all(labels.shape[a] == 1 for a in old_axes):
            sizes += [1] * len(old_axes)
            new_sizes += [1] * len(new_axes)
        else:
            sizes += [shape[a] for a in old_axes]
            new_sizes += [new_shape[a] for a in new_axes]
            split += new_axes if len(new_axes) > 1 else []
    labels = labels.expand(sizes).reshape(new_sizes)
    # Axes that were folded together earlier may come apart again, and be constant again.
    return _cut_constant(labels, split)


def _cut_constant(labels: Tensor, axes: Sequence[int]) -> Tensor:
    """Cut those of the axes along which the labels are constant to size 1."""
    for axis in axes:
        first = labels.narrow(axis, 0, 1) if labels.shape[axis] > 1 else labels
        if first is not labels and bool((labels == first).all()):
            labels = first
    return labels


def _matched_axes(shape: Shape, new_shape: Shape) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of equal size into the shortest runs of axes whose sizes multiply to the same number."""
    runs: list[tuple[list[int], list[int]]] = []
    if 0 in shape:
        return [(list(range(len(shape))), list(range(len(new_shape))))]
    i = j = 0
    while i < len(shape) or j < len(new_shape):
        old, new = ([i] if i < len(shape) else []), ([j] if j < len(new_shape) else [])
        i, j = i + len(old), j + len(new)
        while (left := prod(shape[a] for a in old)) != (right := prod(new_shape[a] for a in new)):
            if left < right:
                old.append(i)
                i += 1
            else:
                new.append(j)
                j += 1
        runs.append((old, new))
    return runs


def rows_over(labels: Tensor, axes: Sequence[int]) -> tuple[Tensor, Shape]:
    """Return the labels as a [rest, fibre] matrix and the shape the rest has with the axes cut to size 1."""
    kept = [d for d in range(labels.dim()) if d not in axes]
    rest = tuple(1 if d in axes else int(labels.shape[d]) for d in range(labels.dim()))
    fibre = prod(int(labels.shape[d]) for d in axes)
    return labels.permute([*kept, *axes]).reshape(-1, fibre), rest


# --- ids of additive terms: equal ids mean equal values; ZERO_TERM means exactly zero ---------------------


def fresh_terms(seed: int, shape: Shape, zero: Tensor | None = None) -> Tensor | None:
    """Ids of an arbitrary value of ``shape``: all different, except that exact zeros keep ``ZERO_TERM``."""
    if prod(shape) > MAX_TERMS:
        return None
    ids = mix(torch.arange(1, prod(shape) + 1, dtype=torch.int64), torch.tensor(seed)).view(shape)
    return ids if zero is None else torch.where(align(zero, len(shape)), ZERO_TERM, ids)


def mix(a: Tensor, b: Tensor) -> Tensor:
    """Hash two ids into one that is never ``ZERO_TERM`` (64-bit, wrap-around arithmetic)."""
    h = (a * 0x1E3779B97F4A7C15 + b) * 0x3F58476D1CE4E5B9
    h = h ^ (h >> 29)
    return torch.where(h == ZERO_TERM, 1, h)


def mix_nonzero(terms: Tensor, number: int) -> Tensor:
    """Derive new ids from ``terms`` and a number, keeping exact zeros."""
    return torch.where(terms == ZERO_TERM, ZERO_TERM, mix(terms, torch.tensor(number)))


def add_terms(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Ids of the sum of two terms; ``None`` is zero everywhere."""
    if a is None or b is None:
        return b if a is None else a
    total = torch.where(a == ZERO_TERM, b, torch.where(b == ZERO_TERM, a, mix(a, b)))
    total = torch.where(a == -b, ZERO_TERM, total)
    return nonzero_terms(total)


def negate_terms(terms: Tensor | None) -> Tensor | None:
    """Ids of the negated terms; negating twice gives the first ids back, and x + (-x) is found to be zero."""
    return None if terms is None else -terms


def reduce_terms(terms: Tensor, axes: Sequence[int]) -> Tensor:
    """Ids of a weighted sum over ``axes`` with unknown weights; zero only where every term is zero."""
    rows, rest = rows_over(terms, axes)
    all_zero = (rows == ZERO_TERM).all(1)
    weights = torch.arange(1, rows.shape[1] + 1, dtype=torch.int64)
    hashed = mix(mix(rows, weights).sum(1), torch.tensor(7))
    return torch.where(all_zero, ZERO_TERM, hashed).view(rest)


def constant_over(terms: Tensor, axes: Sequence[int]) -> Tensor:
    """Mask, with the axes cut to size 1, of the fibres on which the term has one value."""
    rows, rest = rows_over(terms, axes)
    return (rows == rows[:, :1]).all(1).view(rest)


def nonzero_terms(terms: Tensor | None) -> Tensor | None:
    """Return ``None`` for terms that are zero everywhere."""
    return None if terms is None or not bool(terms.any()) else terms
