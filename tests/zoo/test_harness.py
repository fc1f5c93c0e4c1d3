"""The harness itself: the notation of the truth file, and what counts as false, missed, coarse or exact."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from autogroup.partition import OUTSIDE, Partition
from autogroup.report import ParameterReport, Report
from tests.autogroup.netkit import conv, linear
from tests.zoo import run, truth
from tests.zoo.baselines import BASELINES
from tests.zoo.score import Claim, Score, claims_of, load_decisions, score
from tests.zoo.truth import Answer, Model

SHAPE = (8, 4)


def answer(status: str, finest: str | None = None, holds: tuple[str, ...] = (), rows=()) -> Answer:
    return Answer.read({"shape": SHAPE, "status": status, "finest": finest, "holds": holds, "rows": rows})


def keys(*dims: int, groups: int | None = None) -> Partition:
    return Partition.from_dims(SHAPE, dims, groups)


def along0(*labels: int) -> Partition:
    return Partition(SHAPE, torch.tensor(labels).view(-1, 1))


PER_HEAD = answer("invariant", "[0/4]", ("[0/4]", "[0/2]", "[]", "[0%2]"))
WHOLE = answer("invariant", "[]", ("[]",))
PARTIAL = answer("partial", "[0/4]", rows=((0, 4),))
VARIANT = answer("variant")

JUDGED = [
    (PER_HEAD, keys(0, groups=4), None),
    (PER_HEAD, keys(0, groups=2), "coarse"),
    (PER_HEAD, keys(), "coarse"),
    (PER_HEAD, along0(0, 0, 1, 1, 1, 1, 2, 2), "coarse"),
    (PER_HEAD, keys(0), "false"),
    (PER_HEAD, keys(1), "false"),
    (PER_HEAD, None, "miss"),
    (PER_HEAD, along0(0, 0, 1, 1, 2, 2, OUTSIDE, OUTSIDE), "miss"),
    (WHOLE, along0(0, 0, 0, 1, 1, 1, 1, 1), "beyond"),
    (WHOLE, keys(0, groups=2), "false"),
    (PARTIAL, along0(0, 0, 1, 1, *[OUTSIDE] * 4), None),
    (PARTIAL, along0(0, 0, 0, 0, *[OUTSIDE] * 4), "coarse"),
    (PARTIAL, along0(0, 0, 1, 1, 2, 2, OUTSIDE, OUTSIDE), "false"),
    (PARTIAL, along0(0, 1, 2, 2, *[OUTSIDE] * 4), "beyond"),
    (PARTIAL, along0(0, 1, 1, 1, *[OUTSIDE] * 4), "false"),
    (PARTIAL, keys(), "false"),
    (PARTIAL, None, "miss"),
    (VARIANT, None, None),
    (VARIANT, keys(), "false"),
    (VARIANT, along0(0, *[OUTSIDE] * 7), "false"),
]


@pytest.mark.parametrize(("what", "claim", "kind"), JUDGED)
def test_judgement(what: Answer, claim: Partition | None, kind: str | None) -> None:
    found = score(Model("tv", "m", {"w": what}), {"w": Claim(claim, "verdict", "reason")})
    assert [note.kind for note in found.notes] == ([kind] if kind else [])
    good = claim is not None and kind in (None, "coarse", "beyond")
    whole = claim is not None and claim.covers
    assert found.found == (what.status == "invariant" and good and whole)
    assert found.exact == (what.status == "invariant" and claim is not None and kind is None)
    assert found.partial_found == (what.status == "partial" and good)


@pytest.mark.parametrize("status", truth.IGNORED)
def test_what_says_nothing_is_not_scored(status: str) -> None:
    model = Model("tv", "m", {"w": answer(status)})
    for claim in (keys(), None):
        found = score(model, {"w": Claim(claim)})
        assert (found.notes, found.invariant, found.claims) == ([], 0, 0)


def test_a_parameter_the_report_lacks_is_a_miss() -> None:
    found = score(Model("tv", "m", {"w": WHOLE}), {})
    assert [(note.kind, note.got) for note in found.notes] == [("miss", "missing")]


def test_decisions_turn_false_claims_into_decided_ones() -> None:
    model = Model("tv", "m", {"w": VARIANT, "v": VARIANT})
    found = score(model, {"w": Claim(keys()), "v": Claim(keys())}, {"w": "one window"})
    assert [(note.kind, note.reason) for note in found.notes] == [("decided", "one window"), ("false", "")]


def test_decisions_name_models_and_parameters_that_exist() -> None:
    known = {str(model): model.answers for model in truth.load()}
    for model, parameters in load_decisions().items():
        assert model in known
        assert set(parameters) <= set(known[model])
        assert all(len(reason) > 20 for reason in parameters.values())


def test_notation() -> None:
    assert truth.parse("[]", SHAPE) == keys()
    assert truth.parse("[0]", SHAPE) == keys(0)
    assert truth.parse("[0, 1]", SHAPE) == keys(0, 1)
    assert truth.parse("[0/4]", SHAPE) == keys(0, groups=4)
    with pytest.raises(ValueError, match="no partition in the notation"):
        truth.parse("[0%4]", SHAPE)
    with pytest.raises(ValueError, match="not the first"):
        truth.parse("[0, 1/2]", SHAPE)


def test_the_truth_file_reads_completely() -> None:
    models = list(truth.load())
    assert len(models) == len({str(model) for model in models}) == 225
    for model in models:
        for name, found in model.answers.items():
            assert (found.finest is not None) == (found.status in ("invariant", "partial")), (str(model), name)
            if found.finest is not None:
                assert found.allows(found.finest), (str(model), name)


def test_filters() -> None:
    assert [str(m) for m in truth.load(names=("resnet18",))] == ["tv:resnet18"]
    assert {m.kind for m in truth.load(kinds=("hf",))} == {"hf"}


def test_models_without_recorded_truth() -> None:
    found = list(truth.load(names=("timm:resnet26d", "tv:resnet18", "nothing")))
    assert [(str(model), bool(model.answers)) for model in found] == [("tv:resnet18", True), ("timm:resnet26d", False)]


def test_claims_of_a_report_reach_the_aliases() -> None:
    parameters = {
        "w": ParameterReport("w", SHAPE, "invariant", "why", keys(0), aliases=("tied",)),
        "b": ParameterReport("b", (8,), "dead", "why"),
    }
    claims = claims_of(Report(parameters))
    assert claims["w"] == claims["tied"] == Claim(keys(0), "invariant", "why")
    assert claims["b"].partition is None


def test_baselines() -> None:
    model = torch.nn.ModuleDict({"conv": conv(2, 4, 3, bias=True), "fc": linear(3, 4, bias=True)})
    chosen = {name: [k for k, c in pick(model).items() if c.partition is not None] for name, pick in BASELINES.items()}
    assert chosen == {
        "name: conv|downsample.0": ["conv.weight"],
        "ndim == 4": ["conv.weight"],
        "ndim >= 2": ["conv.weight", "fc.weight"],
    }


def test_totals() -> None:
    good = Score("a", invariant=4, found=3, exact=2, partial=1, partial_found=1, claims=3)
    totals = run.Totals((good, Score("b", error="broken", invariant=100)))
    assert (totals.analyzed, totals.recall, totals.exact, totals.partial_recall) == (0.5, 0.75, 0.5, 1.0)
    assert run.Totals((Score("empty"),)).recall == 1.0


def test_a_model_that_fails_becomes_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\nway")

    monkeypatch.setattr(run, "build", broken)
    found = run.examine(Model("tv", "m", {"w": WHOLE}))
    assert found.error == "RuntimeError: no way"
    assert (found.invariant, found.notes) == (1, [])


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the table, the findings and the totals; a false claim is exit code 1."""

    def examined(model: Model, options: run.Options) -> Score:
        return score(model, {"conv1.weight": Claim(Partition.from_dims((64, 3, 7, 7), (1,)), "invariant", "a reason")})

    monkeypatch.setattr(run, "examine", examined)
    monkeypatch.setattr(run, "missing_library", lambda kind: None)
    monkeypatch.setattr(run, "Console", lambda **_: Console(width=200))
    path = tmp_path / "scores.json"
    assert run.main(["--models", "resnet18", "--json", str(path), "--limit", "2"]) == 1
    printed = capsys.readouterr().out
    assert "1 false" in printed
    assert "tv:resnet18 conv1.weight: expected invariant [0], got invariant o i h w -> i: a reason" in printed
    assert "and 17 more" in printed
    assert json.loads(path.read_text(encoding="utf-8"))["autogroup"]["false"] == 1
    assert run.main(["--models", "nothing"]) == 2


def test_missing_libraries_are_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "missing_library", lambda kind: "timm is not installed" if kind == "timm" else None)
    kept = run.available(truth.load(names=("resnet18", "resnet50_gn")), Console(width=200))
    assert [str(model) for model in kept] == ["tv:resnet18"]
    assert "1 models of kind timm are skipped: timm is not installed" in capsys.readouterr().out
