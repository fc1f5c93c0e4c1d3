"""Small networks: the table against a numeric oracle, the analysis against the table, the claims certified."""

from __future__ import annotations

from collections import Counter

import pytest

import autogroup
from autogroup.report import ParameterReport
from tests.autogroup.netkit import Case
from tests.autogroup.nets import NETS
from tests.autogroup.oracle import Truth, truths

each_net = pytest.mark.parametrize("case", NETS, ids=str)


def test_names_are_unique() -> None:
    assert [name for name, times in Counter(case.name for case in NETS).items() if times > 1] == []


def oracle_agrees(case: Case, name: str, truth: Truth) -> bool:
    expected = case.expected[name]
    if expected.verdicts & {"dead", "unused"}:
        return truth.dead
    claim = expected.partition(truth.partition.shape)
    return truth.agrees(claim) if claim is not None else not truth.dead and truth.partition.num_blocks == 0


@each_net
def test_the_table_is_numerically_true(case: Case) -> None:
    model = case.build()
    found = truths(model, case.args, mode=case.mode)
    assert set(found) == set(case.expected)
    assert set(case.oracle_differs) | set(case.known_missing) <= set(found)
    disagreements = {name for name, truth in found.items() if not oracle_agrees(case, name, truth)}
    for name in disagreements:
        print(f"{name}: {found[name].partition} labels {found[name].partition.labels.flatten().tolist()}")
    assert disagreements == set(case.oracle_differs)


def is_exact(case: Case, found: ParameterReport) -> bool:
    expected = case.expected[found.name]
    alone = found.partition if found.verdict in ("invariant", "partial") else None
    return found.verdict in expected.verdicts and alone == expected.partition(found.shape)


@each_net
def test_the_analysis_is_exact(case: Case) -> None:
    report = autogroup.analyze(case.build(), case.args, mode=case.mode)
    assert list(report.parameters) == [name for name, _ in case.build().named_parameters()]
    wrong = {name for name, found in report.parameters.items() if not is_exact(case, found)}
    for name in wrong - set(case.known_missing):
        expected, found = case.expected[name], report.parameters[name]
        print(f"{name}: expected {sorted(expected.verdicts)} {expected.partition(found.shape)}")
        print(f"{name}: found {found.verdict} {found.partition}: {found.reason}")
    # A known miss that is no longer missed has to leave the table.
    assert wrong == set(case.known_missing)


@each_net
def test_the_claims_are_proved(case: Case) -> None:
    model = case.build()
    report = autogroup.analyze(model, case.args, mode=case.mode)
    certificate = autogroup.certify(model, report, case.args, rescale=True)
    assert certificate.refuted == ()
    # Blocks that nothing reads behind their norm have no gradient to judge by.
    undecided = {name for name, proof in certificate.proofs.items() if proof.status != "proved"}
    assert undecided == ({"conv.weight"} if case.name == "slice_of_a_norm" else set())
