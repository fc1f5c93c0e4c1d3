"""Reports: the derived keys, counting and filtering, and the trip through JSON and files."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import autogroup
from autogroup.errors import AutogroupError, LoadError
from autogroup.partition import Partition
from autogroup.report import ROLES, SCHEMA, VERDICTS, ParameterReport, Relation, Report, Step
from tests.autogroup.test_partition import partitions

WORDS = st.text(max_size=6)
STEPS = st.builds(Step, operator=WORDS, module=WORDS, source=WORDS, note=WORDS)


@st.composite
def parameter_reports(draw: st.DrawFn, name: str) -> ParameterReport:
    partition = draw(partitions())
    verdict = draw(st.sampled_from(VERDICTS))
    if verdict in ("invariant", "partial"):
        verdict = "invariant" if partition.covers else "partial"
    return ParameterReport(
        name=name,
        shape=partition.shape,
        verdict=verdict,
        reason=draw(WORDS),
        partition=partition if verdict in ("invariant", "partial") else None,
        role=draw(st.sampled_from(ROLES)),
        norms=tuple(draw(st.lists(WORDS, max_size=2))),
        partners=tuple(draw(st.lists(WORDS, max_size=2))),
        aliases=tuple(draw(st.lists(WORDS, max_size=2))),
        trainable=draw(st.booleans()),
        eps=draw(st.booleans()),
        path=tuple(draw(st.lists(STEPS, max_size=3))),
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    names = draw(st.lists(WORDS, unique=True, max_size=4))
    return Report(
        parameters={name: draw(parameter_reports(name)) for name in names},
        relations=tuple(draw(st.lists(st.builds(Relation, WORDS, WORDS, WORDS, WORDS), max_size=3))),
        unknown_ops=draw(st.dictionaries(WORDS, st.integers(1, 9), max_size=2)),
        capture={"method": "make_fx", "mode": draw(st.sampled_from(("train", "eval"))), "notes": [draw(WORDS)]},
    )


def of(verdict: Any, partition: Partition | None = None, name: str = "w") -> ParameterReport:
    shape = partition.shape if partition is not None else (4, 2)
    return ParameterReport(name, shape, verdict, "because", partition)


@given(reports())
def test_json_loses_nothing(report: Report) -> None:
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert list(again.parameters) == list(report.parameters)
    for name, found in report.parameters.items():
        for field in fields(ParameterReport):
            assert getattr(again.parameters[name], field.name) == getattr(found, field.name), field.name


@given(reports())
def test_counts_and_filters_cover_every_parameter(report: Report) -> None:
    counts = report.counts()
    assert sum(counts.values()) == len(report.parameters)
    assert list(counts) == [verdict for verdict in VERDICTS if verdict in counts]
    assert all(counts.values())
    for verdict in VERDICTS:
        assert len(report.only([verdict])) == counts.get(verdict, 0)
    assert report.only(VERDICTS) == tuple(report.parameters.values())


def test_files(tmp_path: Path) -> None:
    report = Report({"größe": of("invariant", Partition.from_dims((4, 2), (0,)), "größe")})
    path = tmp_path / "report.json"
    report.save(path)
    assert Report.load(str(path)) == report
    assert path.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("schema", [None, SCHEMA + 1, "1"])
def test_another_schema_is_refused(schema: Any) -> None:
    data = {**Report({}).to_dict(), "schema": schema}
    with pytest.raises(LoadError, match=rf"schema {SCHEMA} \(found schema={schema!r}\)"):
        Report.from_dict(data)
    assert issubclass(LoadError, AutogroupError)


def test_keys_follow_the_partition() -> None:
    groups = of("invariant", Partition.from_dims((4, 2), (0,), groups=2))
    assert (groups.channel_dims, groups.channel_groups, groups.rows) == ((0,), 2, ())
    whole = of("invariant", Partition.from_dims((4, 2), ()))
    assert (whole.channel_dims, whole.channel_groups) == ((), None)
    heads = of("invariant", Partition((6, 2), torch.tensor([0, 0, 1, 1, 2, 2]).view(6, 1)))
    assert (heads.channel_dims, heads.channel_groups) == ((0,), 3)


def test_unequal_blocks_keep_the_finest_keys_that_can_say_less() -> None:
    unequal = of("invariant", Partition((6, 2), torch.tensor([0, 0, 0, 0, 1, 2]).view(6, 1)))
    assert (unequal.channel_dims, unequal.channel_groups) == ((), None)
    nearly = of("invariant", Partition((6, 2), torch.tensor([0, 0, 0, 1, 1, 2]).view(6, 1)))
    assert (nearly.channel_dims, nearly.channel_groups) == ((0,), 2)


def test_partial_parameters_have_rows_and_no_keys() -> None:
    partial = of("partial", Partition((6, 2), torch.tensor([0, 0, 1, 1, -1, -1]).view(6, 1)))
    assert (partial.channel_dims, partial.channel_groups, partial.rows) == (None, None, ((0, 4),))
    assert partial.to_dict()["channel_dims"] is None


@pytest.mark.parametrize("verdict", [v for v in VERDICTS if v not in ("invariant", "partial")])
def test_other_verdicts_have_neither(verdict: Any) -> None:
    found = of(verdict)
    assert (found.channel_dims, found.channel_groups, found.rows) == (None, None, ())
    data = found.to_dict()
    assert (data["channel_dims"], data["channel_groups"], data["partition"]) == (None, None, None)


def test_plain_data_names_the_keys_for_readers_of_the_file() -> None:
    data = of("invariant", Partition.from_dims((4, 2), (0,))).to_dict()
    assert data["channel_dims"] == [0]
    assert data["channel_groups"] is None
    assert data["partition"] == {"shape": [4, 2], "channel_dims": [0], "channel_groups": None}


def test_reports_are_frozen() -> None:
    found = of("variant")
    with pytest.raises(FrozenInstanceError):
        found.verdict = "invariant"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Report({}).parameters = {}  # type: ignore[misc]


def test_a_report_sorts_the_parameters_of_its_model() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4))
    report = autogroup.analyze(model, torch.zeros(2, 3, 5, 5))
    groups = report.param_groups(model, weight_decay=0.1)
    assert [(g["param_names"], g["channel_dims"], g["weight_decay"]) for g in groups] == [
        (["0.weight"], (0,), 0.1),
        (["1.weight", "1.bias"], None, 0.0),
    ]
    assert Report.from_dict(report.to_dict()).param_groups(model)[0]["params"][0] is model[0].weight
