"""docs/models.md is what its generator writes, and the generator refuses texts that are not true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docs import make_models
from docs.model_sections import SECTIONS, Section
from tests.zoo.build import LIBRARIES, missing_library

MISSING = [reason for kind in LIBRARIES if (reason := missing_library(kind))]

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING)),
]

QWEN = next(section for section in SECTIONS if section.title == "Qwen3")


def examine(section: Section) -> None:
    found = make_models._run(section.code)
    make_models.check(section, found["model"], found["report"], found[section.inputs])


def test_the_page_is_up_to_date() -> None:
    written = make_models.PAGE.read_text(encoding="utf-8")
    assert written == make_models.page(), "run: python -m docs.make_models"


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (replace(QWEN, verdicts={**QWEN.verdicts, "o_proj.weight": "invariant"}), "says that .*o_proj.weight is"),
        (replace(QWEN, verdicts={**QWEN.verdicts, "k_proj.weight": "invariant, o i -> o"}), "it is invariant, o i"),
        (replace(QWEN, text="And `input_layernorm.weight` is lost."), "names input_layernorm.weight but does not"),
        (replace(QWEN, symmetries=("rescale: a × α, b × α^-1",)), "relies on the symmetry"),
        (replace(QWEN, neutral=(("embed_tokens.weight", "o_proj.weight"),)), "is refuted, not proved"),
        (replace(QWEN, real=(("q_proj.weight[0:8]",),)), "is proved, not refuted"),
        (replace(QWEN, unmoved=("q_norm.weight",)), "says that no symmetry moves"),
        (replace(QWEN, spared=("o_proj.weight",)), "o_proj.weight is decayed by default"),
        (replace(QWEN, verdicts={"wq.weight": "invariant"}), "no parameter is called wq.weight"),
    ],
)
def test_what_is_not_true_is_refused(section: Section, problem: str) -> None:
    examine(QWEN)
    with pytest.raises(AssertionError, match=problem):
        examine(section)
