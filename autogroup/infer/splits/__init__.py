"""Splits: the logical matrices inside a parameter.

Whoever treats weights as matrices (Muon, Shampoo, low-rank methods) needs to know that a fused qkv is three matrices
or three per head, a gate|up projection two, a tensor of experts one per expert. What the graph says: rows that are
read by different operators are different matrices, and an attention that keeps heads apart reads one per head.

A parameter gets no splits if it is one matrix with one reader. Otherwise it gets one per set of rows with the same
readers, in the order of the rows; ``matrices`` tells into how many equal, consecutive parts these rows fall: the heads
of an attention times the matrices that are stacked along the other dims of the parameter. So the three thirds of
``qkv [3·h·d, i]`` have ``matrices=h`` each, a separate ``q [h·d, i]`` has one split over all of its rows with
``matrices=h``, ``gate_up [e, i, 2·m]`` two along dim 2 with ``matrices=e``, ``down [e, m, i]`` one along dim 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.labels import INDEPENDENT
from autogroup.capture import Capture
from autogroup.infer.operators import Reader, shape_of
from autogroup.infer.splits.flow import Stop, Trace
from autogroup.infer.splits.walk import Walk
from autogroup.report import Split


def splits(capture: Capture) -> dict[str, tuple[Split, ...]]:
    """Return how each parameter is cut into logical matrices.

    Args:
        capture: the captured graph.

    Returns:
        FQN → its splits in the order of their rows; ``()`` for a single matrix with a single reader, and for
        whatever is no matrix or cannot be followed.

    Example:
        >>> from torch import nn, zeros
        >>> from autogroup.capture import capture
        >>> glu = nn.Sequential(nn.Linear(4, 6), nn.GLU())
        >>> [(split.rows, split.consumer) for split in splits(capture(glu, (zeros(2, 4),), {}))["0.weight"]]
        [(((0, 3),), 'glu.self'), (((3, 6),), 'glu.self')]
    """
    walk = Walk(capture)
    found: dict[str, tuple[Split, ...]] = {}
    for name, node in capture.parameters.items():
        try:
            found[name] = _splits(shape_of(node), walk.trace(node))
        except Exception:  # a rule does not know the arguments; splits are a convenience, never worth a failure
            found[name] = ()
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """Indices along one dim that have the same readers."""

    mask: Tensor
    stops: tuple[Stop, ...]


def _splits(shape: tuple[int, ...], trace: Trace) -> tuple[Split, ...]:
    """Cut along the last dim that is followed, or, if that is one piece, along the dim that matrices are stacked on."""
    followed = sorted({dim for stop in trace.stops for dim in stop.labels})
    if not followed:
        return ()
    *others, row_dim = followed
    stacked = sorted({*others, *trace.picked})
    pieces = _pieces(trace, row_dim)
    if len(pieces) > 1 or not stacked:
        return _described(shape, trace, row_dim, row_dim, pieces, stacked)
    dim = stacked[0]
    whole = _Piece(torch.ones(shape[dim], dtype=torch.bool), pieces[0].stops)
    pieces = [whole] if dim in trace.picked else _pieces(trace, dim)
    if len({_usage(_leading(trace, row_dim, piece)[0], row_dim) for piece in pieces}) == 1:
        # Every index is read in the same way, be it in a loop or at once: a stack of equals.
        pieces = [_Piece(torch.stack([p.mask for p in pieces]).any(0), tuple(s for p in pieces for s in p.stops))]
    return _described(shape, trace, dim, row_dim, pieces, stacked)


def _pieces(trace: Trace, dim: int) -> list[_Piece]:
    """Group the indices along a dim by who reads them, ordered by the first index; unread ones are left out."""
    blocks = trace.blocks[dim]
    ranks: list[dict[Reader, Tensor]] = [{}, {}, {}]
    for stop in trace.stops:
        if dim in stop.labels:
            masks, read = ranks[_rank(stop, dim)], _members(blocks, stop.labels[dim])
            masks[stop.key] = masks[stop.key] | read if stop.key in masks else read
    readers: dict[Reader, Tensor] = {}
    for masks in ranks:
        if readers:  # what counts less matters only where nothing that counts more reads
            unread = ~torch.stack(list(readers.values())).any(0)
            masks = {key: mask & unread for key, mask in masks.items() if key not in readers}
        readers |= masks
    table = torch.stack(list(readers.values()), 1)
    pieces: list[_Piece] = []
    left = table.any(1)
    while bool(left.any()):
        first = table[int(left.nonzero()[0])]
        mask = left & (table == first).all(1)
        left = left & ~mask
        keys = {key for key, reads in zip(readers, first.tolist(), strict=True) if reads}
        pieces.append(_Piece(mask, tuple(stop for stop in trace.stops if stop.key in keys and dim in stop.labels)))
    return pieces


def _rank(stop: Stop, dim: int) -> int:
    """How much a reader says about what belongs together: an attention most, a reduction least."""
    labels = stop.labels[dim]
    return 2 if stop.weak else 0 if any(labels.shape[d] > 1 for d in stop.batch) else 1


def _members(blocks: Blocks, labels: Tensor) -> Tensor:
    """Mask of the indices whose class is among the labels."""
    present = torch.zeros(blocks.count + 1, dtype=torch.bool)
    present[blocks.find(labels)] = True
    present[INDEPENDENT] = False
    return present[_classes(blocks)]


def _classes(blocks: Blocks) -> Tensor:
    """The class of every index."""
    return blocks.find(blocks.grid.flatten())


def _described(
    shape: tuple[int, ...], trace: Trace, dim: int, row_dim: int, pieces: Sequence[_Piece], stacked: Sequence[int]
) -> tuple[Split, ...]:
    found: list[Split] = []
    for piece in pieces:
        rows = piece.mask if dim == row_dim else None
        leading, heads = _leading(trace, row_dim, piece, rows)
        stack = prod(shape[d] for d in stacked if d != dim) * (int(piece.mask.sum()) if dim != row_dim else 1)
        module = leading.reader.node.meta.get("module", "")
        found.append(Split(dim, _ranges(piece.mask), leading.reader.name, module, stack * heads))
    single = len(found) == 1 and found[0].matrices == 1 and bool(pieces[0].mask.all())
    return () if single else tuple(found)


def _leading(trace: Trace, row_dim: int, piece: _Piece, rows: Tensor | None = None) -> tuple[Stop, int]:
    """The reader that a piece is named after, and its number of heads: the one with most heads, or the first."""
    counted = [(stop, _heads(stop, trace.blocks[row_dim], row_dim, rows)) for stop in piece.stops]
    return max(counted, key=lambda pair: (not pair[0].weak, pair[1]))


def _usage(stop: Stop, row_dim: int) -> tuple[str, tuple[int, ...]]:
    """How a reader uses rows: its argument, and the dims of it along which the rows lie, counted from the end."""
    labels = stop.labels.get(row_dim)
    shape = () if labels is None else labels.shape
    return stop.reader.name, tuple(d - len(shape) for d, n in enumerate(shape) if n > 1)


def _heads(stop: Stop, blocks: Blocks, dim: int, mask: Tensor | None) -> int:
    """Into how many equal, consecutive parts the reader takes the rows, 1 if there is no such number."""
    labels = stop.labels.get(dim) if stop.batch else None
    batch = () if labels is None else tuple(d for d in stop.batch if labels.shape[d] > 1)
    if labels is None or not batch:
        return 1
    rest = [d for d in range(labels.dim()) if d not in batch]
    sets = blocks.find(labels).permute(*batch, *rest).flatten(0, len(batch) - 1).flatten(1)
    heads = torch.unique(sets, dim=0)
    count, number = heads.shape[0], torch.arange(heads.shape[0])[:, None].expand_as(heads)
    owner = torch.full((blocks.count + 1,), INDEPENDENT)
    owner[heads] = number
    classes = _classes(blocks) if mask is None else _classes(blocks)[mask]
    of_row = owner[classes]
    overlap = bool(((owner[heads] != number) & (heads != INDEPENDENT)).any())
    if overlap or count == classes.numel() or classes.numel() % count:
        return 1
    parts = of_row.view(count, -1)
    return count if bool((parts == parts[:, :1]).all()) and parts[:, 0].unique().numel() == count else 1


def _ranges(mask: Tensor) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of the indices where the mask holds."""
    padded = torch.nn.functional.pad(mask.to(torch.int8), (1, 1))
    edges = padded.diff().nonzero().flatten().tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))
