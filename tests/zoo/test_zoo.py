"""The analysis over real models: no false claim, everything analyzed, nearly everything found."""

from __future__ import annotations

import pytest

from tests.zoo import truth
from tests.zoo.build import missing_library
from tests.zoo.run import Totals, examine
from tests.zoo.score import Score, load_decisions

pytestmark = [pytest.mark.zoo, pytest.mark.slow]

MODELS = tuple(truth.load())
LEAST_RECALL, LEAST_EXACT, MOST_WITH_UNKNOWN = 0.995, 0.99, 0.02

_scores: dict[str, Score] = {}


@pytest.fixture(autouse=True)
def _only_when_asked_for(request: pytest.FixtureRequest) -> None:
    """The whole zoo takes minutes."""
    if "zoo" not in str(request.config.getoption("markexpr")):
        pytest.skip("run with: pytest -m zoo")


def scored(model: truth.Model) -> Score:
    """Examine a model once, however many tests ask."""
    if str(model) not in _scores:
        _scores[str(model)] = examine(model)
    return _scores[str(model)]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_no_claim_is_false(model: truth.Model) -> None:
    reason = missing_library(model.kind)
    if reason:
        pytest.skip(reason)
    found = scored(model)
    assert [note for note in found.notes if note.kind == "false"] == []


def test_all_models_are_analyzed_and_nearly_all_invariance_is_found() -> None:
    models = [model for model in MODELS if not missing_library(model.kind)]
    if not models:
        pytest.skip("no library with models of the zoo is installed")
    totals = Totals(tuple(scored(model) for model in models))
    errors = [f"{score.model}: {score.error}" for score in totals.scores if score.error]
    assert totals.analyzed == 1, "\n".join(errors)
    assert totals.false == 0
    assert totals.recall >= LEAST_RECALL
    assert totals.exact >= LEAST_EXACT
    assert totals.to_dict()["with_unknown"] <= MOST_WITH_UNKNOWN


def test_every_decision_is_still_needed() -> None:
    """A decision that no claim rests on any more has to leave the file."""
    by_name = {str(model): model for model in MODELS}
    idle: list[str] = []
    for name, parameters in load_decisions().items():
        model = by_name[name]
        if missing_library(model.kind):
            continue
        decided = {note.parameter for note in scored(model).notes if note.kind == "decided"}
        idle += [f"{name} {parameter}" for parameter in parameters if parameter not in decided]
    assert idle == []
