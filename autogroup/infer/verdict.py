"""Verdict: from what became of a parameter's blocks to one word, a reason and a path."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, fx

from autogroup.algebra.blocks import Blocks, Event
from autogroup.infer.paths import Paths, located, place
from autogroup.partition import OUTSIDE, Partition
from autogroup.report import Step, Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said of one parameter."""

    verdict: Verdict
    reason: str
    partition: Partition | None = None
    norms: tuple[str, ...] = ()
    path: tuple[Step, ...] = ()


def judge(blocks: Blocks, node: fx.Node, paths: Paths) -> Judgement:
    """Decide the verdict of a parameter after the whole graph was interpreted.

    Args:
        blocks: its blocks, with what happened to them.
        node: its placeholder.
        paths: to show the way to the deciding operator.
    """
    absorbed = [e for e in blocks.events if e.kind == "absorbed"]
    lost = [e for e in blocks.events if e.kind != "absorbed"]
    if blocks.translates and blocks.removals:
        first = blocks.removals[0]
        return Judgement("dead", f"{first.reason} ({located(first.node)})", path=_path(first, node, paths))
    if not blocks.events:
        reason = "the forward never reads it" if not node.users else "the loss does not depend on it"
        return Judgement("unused", reason)
    ids, was_absorbed, has_escaped = blocks.settle()
    good = was_absorbed & ~has_escaped
    if not bool(good.any()):
        return _lost(lost, node, paths)
    partition = Partition(blocks.shape, torch.where(good, ids, OUTSIDE))
    if partition.covers:
        if partition.num_blocks == prod(blocks.shape):
            return Judgement(
                "dead",
                "every block is a single number, of which only the sign matters",
                partition,
                _norms(absorbed),
                _path(absorbed[0], node, paths),
            )
        return Judgement(
            "invariant", _norm_reason(absorbed), partition, _norms(absorbed), _path(absorbed[0], node, paths)
        )
    rows = _whole_rows(good)
    if not bool(rows.any()):
        return _lost(lost, node, paths)
    partition = Partition(blocks.shape, torch.where(rows, torch.where(good, ids, OUTSIDE), OUTSIDE))
    why = f"only rows {', '.join(f'{a}:{b}' for a, b in partition.rows)}: {_norm_reason(absorbed)}"
    if lost:
        why += f"; the others: {_lost_reason(lost[0])}"
    return Judgement("partial", why, partition, _norms(absorbed), _path(absorbed[0], node, paths))


def _whole_rows(good: Tensor) -> Tensor:
    """Mask of the rows of dim 0 all of whose entries are good."""
    if good.dim() < 2:
        return good
    return good.flatten(1).all(1).view(-1, *[1] * (good.dim() - 1))


def _lost(lost: list[Event], node: fx.Node, paths: Paths) -> Judgement:
    """No block is invariant: unknown only if nothing but operators without a rule stood in the way."""
    known = [e for e in lost if e.kind == "escaped"]
    if known:
        return Judgement("variant", _lost_reason(known[0]), path=_path(known[0], node, paths))
    if lost:
        return Judgement("unknown", _lost_reason(lost[0]), path=_path(lost[0], node, paths))
    return Judgement("unused", "the loss does not depend on it")


def _norms(absorbed: list[Event]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place(e.node) for e in absorbed))


def _norm_reason(absorbed: list[Event]) -> str:
    first = absorbed[0]
    others = len(_norms(absorbed)) - 1
    more = f" and {others} more" if others else ""
    return f"{first.reason} in {place(first.node)}{more}"


def _lost_reason(event: Event) -> str:
    if event.node.op == "output":
        return event.reason
    added = (
        f"; the term was added by {located(event.term)}"
        if event.term is not None and event.term is not event.node
        else ""
    )
    return f"{event.reason} ({located(event.node)}){added}"


def _path(event: Event, node: fx.Node, paths: Paths) -> tuple[Step, ...]:
    return paths.steps(node, event.node, event.reason)
