"""Write ``models.md`` beside this file: what the analysis says of real models, and what weight decay does to them.

    python -m docs.make_models

Needs timm, torchvision and transformers. Nothing is downloaded: models are built small, with random weights. What the
texts of ``model_sections`` say is checked against the report and, where it is about decay, numerically.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import autogroup
from autogroup.partition import OUTSIDE
from autogroup.render import print_explanation, print_table
from autogroup.render.console import make_console
from autogroup.render.table import summary
from autogroup.report import Report
from autogroup.symmetry import Member, Symmetry
from docs.model_sections import HEAD, SECTIONS, SETUP, Section
from tests.zoo.torchvision_ops import declare

PAGE = Path(__file__).with_name("models.md")
WIDTH = 100
LIBRARIES = ("torch", "timm", "transformers")


def page() -> str:
    """Return the text of the page, after checking it.

    Raises:
        AssertionError: a text says what the report or the numbers do not bear out.
    """
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in LIBRARIES)
    parts = [HEAD.format(versions=versions, setup=SETUP.strip())]
    for section in SECTIONS:
        parts += _section(section)
    return "\n".join(parts)


def _section(section: Section) -> Iterator[str]:
    namespace = _run(section.code)
    model, report = namespace["model"], namespace["report"]
    check(section, model, report, namespace[section.inputs])
    yield f"## {section.title}\n\n```python\n{section.code.strip()}\n```\n"
    yield f"```text\n{_table(report, section.shown)}\n```\n"
    for name in section.explained:
        yield f"`explain {name}`, without the path:\n\n```text\n{_explanation(report, name)}\n```\n"
    yield section.text.strip() + "\n"


def _run(code: str) -> dict[str, Any]:
    """Run what the page tells the reader to run."""
    declare()
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of themselves when they are imported
        with contextlib.redirect_stdout(io.StringIO()):  # the table is printed again below, at a fixed width
            exec(SETUP, namespace)
            exec(code, namespace)
    return namespace


def _printed(show: Callable[[Any], None]) -> str:
    """What ``show`` prints on a console of ``WIDTH`` columns, without spaces at the ends of lines."""
    file = io.StringIO()
    console = make_console(file)
    console.width = WIDTH
    show(console)
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip().splitlines())


def _table(report: Report, shown: tuple[str, ...]) -> str:
    """The rows of the parameters that match a pattern, above the summary of all of them."""
    parts = {n: p for n, p in report.parameters.items() if any(fnmatchcase(n, pattern) for pattern in shown)}
    assert parts, f"no parameter matches {shown}"
    rows, _, _ = _printed(lambda c: print_table(replace(report, parameters=parts), console=c)).partition("\n\n")
    lines = [rows, "", *summary(report)]
    if len(parts) < len(report.parameters):
        lines.append(f"shown: {len(parts)} of {len(report.parameters)} parameters")
    return "\n".join(lines)


def _explanation(report: Report, name: str) -> str:
    text, _, _ = _printed(lambda c: print_explanation(report, name, console=c)).partition("\n\n")
    return text


# --- checks ----------------------------------------------------------------------------------------------------


def check(section: Section, model: nn.Module, report: Report, inputs: Mapping[str, Any]) -> None:
    """Hold what a section says against the report and against numbers.

    Args:
        section: the texts, and what they claim.
        model: the model it is about.
        report: the analysis of the model.
        inputs: its example inputs by name.

    Raises:
        AssertionError: a claim does not hold, or the text names a parameter that no claim is about.
    """
    about = f"section {section.title!r}"
    for short, verdict in section.verdicts.items():
        for name in _find(report, short):
            found = report.parameters[name]
            said = (found.verdict, f"{found.verdict}, {found.partition}")
            assert verdict in said, f"{about} says that {name} is {verdict}; it is {said[1]}"
    for word in re.findall(r"`([^`]+)`", section.text):
        is_parameter = any(_is_end(word, name) for name in report.parameters)
        assert not is_parameter or word in section.verdicts, f"{about} names {word} but does not check it"
    symmetries = set(map(str, report.symmetries))
    for line in section.symmetries:
        assert line in symmetries, f"{about} relies on the symmetry {line!r}; there are {sorted(symmetries)}"
    for short in section.unmoved:
        for name in _find(report, short):
            assert not report.symmetries_of(name), f"{about} says that no symmetry moves {name}"
    assert autogroup.certify(model, report, kwargs=dict(inputs)).ok, f"{about}: a claim of the report is refuted"
    for sets, expected in ((section.neutral, "proved"), (section.real, "refuted")):
        for names in sets:
            status = shrinking_together(model, report, names, inputs)
            assert status == expected, f"{about}: that {names} may shrink together is {status}, not {expected}"
    decay = {n: g["weight_decay"] for g in report.param_groups(model, weight_decay=1.0) for n in g["param_names"]}
    for short in section.spared:
        assert not any(decay[name] for name in _find(report, short)), f"{about}: {short} is decayed by default"


def shrinking_together(model: nn.Module, report: Report, names: tuple[str, ...], inputs: Mapping[str, Any]) -> str:
    """Test whether the loss stays as it is when one factor multiplies all of these, as weight decay does.

    Args:
        model: the model.
        report: its analysis, for the shapes.
        names: ends of parameter names, with the rows meant if it is not all, e.g. ``qkv.weight[0:32,64:96]``.
        inputs: example inputs by name.

    Returns:
        ``proved``, ``refuted`` or ``undecided``.
    """
    members: list[Member] = []
    for text in names:
        short, _, rows = text.rstrip("]").partition("[")
        for name in _find(report, short):
            shape = report.parameters[name].shape
            labels = torch.full((shape[0], *[1] * (len(shape) - 1)), OUTSIDE if rows else 0)
            for piece in rows.split(",") if rows else ():
                start, stop = map(int, piece.split(":"))
                labels[start:stop] = 0
            members.append(Member(name, Fraction(1), shape, labels))
    bare = {n: replace(p, verdict="variant", partition=None) for n, p in report.parameters.items()}
    claim = Report(bare, symmetries=(Symmetry("joint scale", tuple(members), 1),))
    (proof,) = autogroup.certify(model, claim, kwargs=dict(inputs)).proofs.values()
    return proof.status


def _find(report: Report, short: str) -> list[str]:
    """Names of parameters that end so."""
    found = [name for name in report.parameters if _is_end(short, name)]
    assert found, f"no parameter is called {short}"
    return found


def _is_end(short: str, name: str) -> bool:
    return name == short or name.endswith(f".{short}")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
