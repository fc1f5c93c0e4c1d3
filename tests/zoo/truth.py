"""The ground truth of the zoo: which parameters of real models are scale-invariant, and over which blocks.

``truth.jsonl.gz`` has one model per line. It was decided by Euler's identity in float64 on small inputs, with the
norms' eps near zero and dropout off. A partition is written ``[0]`` (one block per index of dim 0), ``[0, 1]``,
``[]`` (the whole tensor) or ``[0/8]`` (dim 0 cut into 8 contiguous blocks).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from autogroup.partition import OUTSIDE, Partition

TRUTH = Path(__file__).with_name("truth.jsonl.gz")
IGNORED = ("dead", "scalar", "ambiguous", "unused")
"""Statuses that say nothing about a claim: no gradient, one element, numerically undecided, never read."""

KINDS = ("tv", "timm", "hf")

_TERM = re.compile(r"(\d+)(?:/(\d+))?")


def parse(notation: str, shape: tuple[int, ...]) -> Partition:
    """Return the partition that ``[0/8]`` and the like describe."""
    terms = [_TERM.fullmatch(term.strip()) for term in notation.strip("[]").split(",") if term.strip()]
    if not all(terms):
        raise ValueError(f"{notation!r} is no partition in the notation of the truth file")
    found = [(int(term[1]), int(term[2]) if term[2] else None) for term in terms if term]
    if any(groups for _, groups in found[1:]):
        raise ValueError(f"{notation!r} cuts a dim that is not the first")
    return Partition.from_dims(shape, tuple(dim for dim, _ in found), found[0][1] if found else None)


@dataclass(frozen=True)
class Answer:
    """What is true of one parameter."""

    shape: tuple[int, ...]
    status: str
    finest_notation: str | None
    holds_notation: tuple[str, ...]
    rows: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Answer:
        holds = tuple(text for text in data.get("holds", ()) if "%" not in text)
        rows = tuple((a, b) for a, b in data.get("rows", ()))
        return cls(tuple(data["shape"]), data["status"], data.get("finest"), holds, rows)

    @property
    def counts(self) -> bool:
        """Whether this parameter is scored."""
        return self.status not in IGNORED

    @cached_property
    def finest(self) -> Partition | None:
        """The finest partition that is known to hold; entries outside ``rows`` belong to no block."""
        if self.finest_notation is None:
            return None
        partition = parse(self.finest_notation, self.shape)
        if self.status != "partial":
            return partition
        inside = torch.zeros(self.shape[0], dtype=torch.bool)
        for start, stop in self.rows:
            inside[start:stop] = True
        inside = inside.view(-1, *[1] * (len(self.shape) - 1))
        return Partition(self.shape, torch.where(inside, partition.labels, OUTSIDE))

    def allows(self, claim: Partition) -> bool:
        """Whether every block of ``claim`` is known to be invariant."""
        if self.status == "partial":
            return self.finest is not None and self.finest.refines(claim)
        return self.status == "invariant" and any(
            parse(text, self.shape).refines(claim) for text in self.holds_notation
        )


@dataclass(frozen=True)
class Model:
    """One line of the truth file."""

    kind: str
    name: str
    answers: Mapping[str, Answer]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def load(kinds: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> Iterator[Model]:
    """Yield the models of the truth file, all of them or those of some kinds or names.

    A name with its kind, as in ``timm:resnet26d`` or ``hf:FOLDER``, need not be in the file: nothing is known of it.
    """
    known: set[str] = set()
    with gzip.open(TRUTH, "rt", encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            full = f"{data['kind']}:{data['model']}"
            if (kinds and data["kind"] not in kinds) or (names and not {data["model"], full} & set(names)):
                continue
            known.add(full)
            answers = {name: Answer.read(answer) for name, answer in data["params"].items()}
            yield Model(data["kind"], data["model"], answers)
    for name in names:
        kind, colon, rest = name.partition(":")
        if name not in known and colon and kind in KINDS and (not kinds or kind in kinds):
            yield Model(kind, rest, {})
