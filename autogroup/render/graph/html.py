"""The page: one HTML file with the data of a report, a strict content policy, and no need for a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cache
from importlib import resources
from typing import Any

from autogroup.render.console import details, elements, partition_text, shape_text
from autogroup.render.explain import ENDINGS, split_text
from autogroup.render.graph import layout
from autogroup.render.graph.network import MARK, norm_keys, norm_of
from autogroup.render.graph.text import printable, shareable, short_operator
from autogroup.render.modules import Module, module_tree, span
from autogroup.render.table import summary
from autogroup.report import VERDICTS, ParameterReport, Report
from autogroup.symmetry import Symmetry, power_text

_SCRIPTS = ("dom", "state", "header", "tree", "table", "picture", "detail", "main")

MEANINGS = {
    "invariant": "Multiplying any one block by any α > 0 leaves the training loss unchanged.",
    "partial": "Some rows only are scale-invariant.",
    "joint": "Scale-invariant only together with its partners, under one common factor.",
    "dead": "The training loss does not depend on it.",
    "variant": "The training loss depends on its scale.",
    "unknown": "It reached an operator without a rule; treat it as variant.",
    "unused": "The forward pass never reads it.",
}
"""One sentence on each verdict."""


def to_html(report: Report, title: str) -> str:
    """Return the page.

    Args:
        report: what ``analyze`` returned.
        title: its heading; absolute paths in it are shortened.

    Example:
        >>> page = to_html(Report({}), "</script>")
        >>> "</script>" in page.partition("<body>")[0]
        False
    """
    title = printable(shareable(title))
    style, script = _file("style.css"), _script()
    content = {
        "mark": MARK,
        "title": html.escape(title),
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "style": style,
        "script": script,
        "data": _inert(page_data(report, title)),
    }
    # One pass: what is put in is not looked at again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: content[match[1]], _file("page.html"))


def page_data(report: Report, title: str) -> dict[str, Any]:
    """Return what the page shows, as plain data; equal steps and paths are written once."""
    numbers = {name: number for number, name in enumerate(report.parameters)}
    steps: dict[tuple[str, ...], int] = {}
    paths: dict[tuple[int, ...], int] = {}
    parameters: list[dict[str, Any]] = []
    for parameter in report.parameters.values():
        path = tuple(
            steps.setdefault((s.operator, s.module, shareable(s.source), s.note), len(steps)) for s in parameter.path
        )
        parameters.append(_parameter(parameter) | {"path": paths.setdefault(path, len(paths))})
    norms = {norm: number for number, norm in enumerate(norm_keys(report))}
    return {
        "title": title,
        "about": [line.removesuffix(" (see explain)") for line in summary(report)],
        "verdicts": [{"name": v, "meaning": MEANINGS[v], "ending": ENDINGS[v]} for v in VERDICTS],
        "parameters": parameters,
        "steps": list(steps),
        "paths": list(paths),
        "norms": [[module, short_operator(operator), shareable(source)] for module, operator, source in norms],
        "relations": [[numbers[r.parameter], norms[norm_of(r)]] for r in report.relations],
        "symmetries": [_symmetry(s, numbers) for s in report.symmetries if len(s.parameters) > 1],
        "tree": _tree(module_tree(report.parameters.values()), numbers),
        "picture": _picture(report, numbers, norms),
    }


def _parameter(p: ParameterReport) -> dict[str, Any]:
    """All facts about a parameter that are there."""
    facts = {
        "name": p.name,
        "shape": shape_text(p.shape),
        "elements": elements(p.shape),
        "verdict": p.verdict,
        "reason": details(p),
        "partition": partition_text(p) if p.partition else "",
        "blocks": p.partition.num_blocks if p.partition else 0,
        "role": " and ".join(p.roles),
        "depth": p.depth,
        "eps": p.eps,
        "frozen": not p.trainable,
        "aliases": p.aliases,
        "splits": [split_text(split) for split in p.splits],
    }
    if p.channel_dims is not None:
        facts["keys"] = f"channel_dims={p.channel_dims}, channel_groups={p.channel_groups}"
    return {key: value for key, value in facts.items() if value or key in ("elements", "depth")}


def _symmetry(symmetry: Symmetry, numbers: dict[str, int]) -> dict[str, Any]:
    """A symmetry; a member is its parameter's number, with the part that is moved and the power if they say more."""
    members: list[int | list[int | str]] = []
    for member in symmetry.members:
        part, power = str(member).removeprefix(member.parameter), power_text(member.power)
        number = numbers[member.parameter]
        members.append(number if not part and power == "α" else [number, part, power])
    return {"kind": symmetry.kind, "count": symmetry.count, "eps": symmetry.eps, "members": members}


def _tree(module: Module, numbers: dict[str, int]) -> dict[str, Any]:
    """A module: FQN, its parameters and its children; children that look alike are folded into one."""
    children: list[dict[str, Any]] = []
    for run in module.runs():
        inside = [_tree(child, numbers) | {"label": last} for last, child in run.items()]
        children += inside if len(run) < 3 else [{"label": span(list(run)), "alike": len(run), "children": inside}]
    own = [numbers[p.name] for p in module.parameters.values()]
    return {"name": module.name, "parameters": own, "children": children}


def _picture(report: Report, numbers: dict[str, int], norms: dict[tuple[str, str, str], int]) -> dict[str, Any]:
    """The drawing, and the lengths that the page needs to draw it."""
    drawn = layout.lay_out(report)
    cards = [
        {
            "name": card.name,
            "x": card.x,
            "y": card.y,
            "height": card.height,
            "parameters": [numbers[name] for name in card.parameters],
            "norms": [[norms[norm], row] for norm, row in card.norms.items()],
        }
        for card in drawn.cards
    ]
    return {
        "cards": cards,
        "width": drawn.width,
        "height": drawn.height,
        "cardWidth": drawn.card_width,
        "row": layout.ROW,
        "head": layout.HEAD,
        "pad": layout.PAD,
        "parameterWidth": drawn.parameter_width,
        "normWidth": layout.NORM_WIDTH,
        "letter": layout.LETTER,
        "digit": layout.DIGIT,
        "margin": layout.MARGIN,
    }


def _spelled(value: Any) -> Any:
    """Spell every text in plain data."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list | tuple) else value


def _inert(data: dict[str, Any]) -> str:
    """Return JSON in which no text can end the script element that holds it, nor begin a comment in it."""
    text = json.dumps(_spelled(data), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _script() -> str:
    """All scripts in one function, so that they share names with each other and with nothing else."""
    parts = "\n".join(_file(f"{name}.js") for name in _SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


@cache
def _file(name: str) -> str:
    return resources.files("autogroup.render.graph").joinpath("page", name).read_text(encoding="utf-8")
