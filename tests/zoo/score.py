"""Hold the claims about one model against the truth: false claims, misses, and what is merely not expressible."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from autogroup.partition import OUTSIDE, Partition
from autogroup.report import Report
from tests.zoo.truth import Answer, Model

DECISIONS = Path(__file__).with_name("decisions.json")

Finding = Literal["false", "decided", "miss", "coarse", "beyond"]
"""false: claimed and not true. decided: claimed, not in the truth file, but mathematically right (decisions.json).
miss: true and not claimed. coarse: claimed over larger blocks than necessary. beyond: claimed over blocks that the
notation of the truth file cannot write; their finest expressible coarsening is true."""


@dataclass(frozen=True)
class Claim:
    """What an analysis, or a baseline, says of one parameter: its blocks, or ``None``."""

    partition: Partition | None
    verdict: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Note:
    """One parameter on which claim and truth differ."""

    kind: Finding
    parameter: str
    expected: str
    got: str
    reason: str


@dataclass
class Score:
    """The result for one model."""

    model: str
    error: str = ""
    invariant: int = 0
    """Scored parameters that are invariant in truth."""
    found: int = 0
    """Those of them that are claimed."""
    exact: int = 0
    """Those of them that are claimed over the finest blocks."""
    partial: int = 0
    """Scored parameters of which only some rows are invariant."""
    partial_found: int = 0
    claims: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    symmetries: dict[str, int] = field(default_factory=dict)
    """Kind of symmetry → how many of them, copies not counted."""
    notes: list[Note] = field(default_factory=list)
    capture_seconds: float = 0.0
    infer_seconds: float = 0.0
    certificate: dict[str, int] = field(default_factory=dict)
    certificate_error: str = ""
    refuted: list[str] = field(default_factory=list)

    def count(self, kind: Finding) -> int:
        return sum(note.kind == kind for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def claims_of(report: Report) -> dict[str, Claim]:
    """Return the claims a report makes; aliases of a tied parameter make the same one."""
    claims: dict[str, Claim] = {}
    for found in report.parameters.values():
        partition = found.partition if found.verdict in ("invariant", "partial") else None
        for name in (found.name, *found.aliases):
            claims[name] = Claim(partition, found.verdict, found.reason)
    return claims


def load_decisions() -> dict[str, dict[str, str]]:
    """Return model → parameter → why a claim that the truth file does not know is right all the same."""
    decisions: dict[str, dict[str, str]] = {}
    for entry in json.loads(DECISIONS.read_text(encoding="utf-8"))["decisions"]:
        reason: str = entry["reason"]
        decisions[entry["model"]] = dict.fromkeys(entry["parameters"], reason)
    return decisions


def score(model: Model, claims: Mapping[str, Claim], decisions: Mapping[str, str] | None = None) -> Score:
    """Judge every scored parameter of ``model``."""
    result = Score(str(model))
    for name, answer in model.answers.items():
        if not answer.counts:
            continue
        claim = claims.get(name, Claim(None, "missing", "the report does not name this parameter"))
        result.invariant += answer.status == "invariant"
        result.partial += answer.status == "partial"
        result.claims += claim.partition is not None
        note = _judge(name, answer, claim)
        if note is not None and note.kind == "false" and name in (decisions or {}):
            note = Note("decided", name, note.expected, note.got, (decisions or {})[name])
        if note is not None:
            result.notes.append(note)
        good = claim.partition is not None and (note is None or note.kind in ("coarse", "beyond", "decided"))
        covers = claim.partition is not None and claim.partition.covers
        result.found += answer.status == "invariant" and good and covers
        result.partial_found += answer.status == "partial" and good
        result.exact += answer.status == "invariant" and good and covers and note is None
    return result


def _judge(name: str, answer: Answer, claim: Claim) -> Note | None:
    """Return what is wrong with a claim, or ``None`` if it says exactly the truth."""
    expected = _written(answer)
    got = f"{claim.verdict} {claim.partition}" if claim.partition is not None else claim.verdict

    def note(kind: Finding) -> Note:
        return Note(kind, name, expected, got, claim.reason)

    truth = answer.finest
    if claim.partition is None:
        return note("miss") if truth is not None else None
    if truth is None:
        return note("false")
    if answer.allows(claim.partition):
        if claim.partition == truth:
            return None
        return note("coarse" if claim.partition.covers == truth.covers else "miss")
    return note("beyond") if _beyond_notation(answer, claim.partition) else note("false")


def _beyond_notation(answer: Answer, claim: Partition) -> bool:
    """Whether a claim refines what is known to be true and has blocks the truth file cannot write."""
    if answer.finest is None or claim.exact_keys or not _same_entries(claim, answer.finest):
        return False
    return claim.refines(answer.finest) or (claim.covers and answer.allows(_expressible(claim)))


def _same_entries(a: Partition, b: Partition) -> bool:
    """Whether two partitions leave out the same entries."""
    shape = torch.broadcast_shapes(a.labels.shape, b.labels.shape)
    return torch.equal((a.labels == OUTSIDE).expand(shape), (b.labels == OUTSIDE).expand(shape))


def _expressible(claim: Partition) -> Partition:
    dims, groups = claim.keys()
    assert dims is not None
    return Partition.from_dims(claim.shape, dims, groups)


def _written(answer: Answer) -> str:
    rows = ", ".join(f"{a}:{b}" for a, b in answer.rows)
    return " ".join(filter(None, (answer.status, answer.finest_notation, f"rows {rows}" if rows else "")))
