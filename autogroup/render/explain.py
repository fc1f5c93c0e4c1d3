"""Why a parameter got its verdict: the path from it to the place that decided."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from autogroup.errors import AutogroupError
from autogroup.render.console import make_console, plural, shape_text, verdict_text
from autogroup.report import ParameterReport, Report, Split, Step
from autogroup.symmetry import power_text

ENDINGS = {
    "invariant": "here the scale is removed",
    "partial": "here the scale of the named rows is removed",
    "joint": "here it scales only together with its partners",
    "dead": "here the loss stops depending on it",
    "variant": "here invariance is lost",
    "unknown": "no rule knows this operator",
    "unused": "the path ends here",
}
"""What the last step of a path means, by verdict."""


def find_parameter(report: Report, name: str) -> ParameterReport:
    """Return the report of a parameter by its name or by the name it is tied to.

    Raises:
        AutogroupError: there is no such parameter; the message lists close matches.
    """
    if name in report.parameters:
        return report.parameters[name]
    for parameter in report.parameters.values():
        if name in parameter.aliases:
            return parameter
    known = [n for p in report.parameters.values() for n in (p.name, *p.aliases)]
    inside = [n for n in known if name and name in n]
    close = list(dict.fromkeys([*difflib.get_close_matches(name, known, n=5, cutoff=0.5), *inside]))[:5]
    hint = f"close matches: {', '.join(close)}" if close else f"it has {plural(len(known), 'parameter')}"
    raise AutogroupError(f"the model has no parameter {name!r}; {hint}")


def find_parameters(report: Report, patterns: Iterable[str]) -> tuple[ParameterReport, ...]:
    """Return the parameters that names and shell patterns such as ``layer1.*.weight`` stand for, in model order.

    Raises:
        AutogroupError: there is none that one of them stands for; the message lists close matches.

    Example:
        >>> report = Report({n: ParameterReport(n, (4,), "variant", "") for n in ("a.bias", "b.weight", "b.bias")})
        >>> [p.name for p in find_parameters(report, ["*.bias", "b.bias"])]
        ['a.bias', 'b.bias']
    """
    found: set[str] = set()
    for pattern in patterns:
        matching = {
            p.name for p in report.parameters.values() if any(fnmatchcase(n, pattern) for n in (p.name, *p.aliases))
        }
        found |= matching or {find_parameter(report, pattern).name}
    return tuple(p for p in report.parameters.values() if p.name in found)


def print_explanation(report: Report, name: str, *, console: Console | None = None, file: TextIO | None = None) -> None:
    """Print what is known of one parameter and the operators that led to it.

    Args:
        report: what ``analyze`` returned.
        name: FQN of the parameter, or of one it is tied to.
        console: a rich console; by default one for ``file``.
        file: where to print; standard output by default.

    Raises:
        AutogroupError: there is no such parameter.

    Example:
        >>> step = Step("aten.gelu.default", "mlp.act", "model.py:12", "GELU is not homogeneous")
        >>> p = ParameterReport("w", (4, 4), "variant", "meets GELU", path=(step,))
        >>> print_explanation(Report({"w": p}), "w", console=Console(width=60))
        w  4x4  variant
        meets GELU
        <BLANKLINE>
        path
         1  aten.gelu.default  in mlp.act  at model.py:12
              GELU is not homogeneous
            = here invariance is lost
    """
    console = console or make_console(file)
    parameter = find_parameter(report, name)
    for line in (*_facts(parameter), *_symmetries(report, parameter.name)):
        console.print(line, overflow="fold")
    console.print()
    if not parameter.path:
        console.print(Text("no operator led to this verdict"))
        return
    console.print(Text("path", style="bold"))
    digits = len(str(len(parameter.path))) + 1
    for number, step in enumerate(parameter.path, 1):
        console.print(_step_line(number, step, digits), overflow="fold")
        if step.note:
            console.print(Padding(Text(step.note, style="dim"), (0, 0, 0, digits + 4), expand=False))
    console.print(Text(f"{' ' * (digits + 2)}= {ENDINGS[parameter.verdict]}"))


def _facts(parameter: ParameterReport) -> list[Text]:
    """The lines above the path."""
    head = Text.assemble((parameter.name, "bold"), f"  {shape_text(parameter.shape)}  ")
    lines = [head.append_text(verdict_text(parameter))]
    if parameter.partition:
        blocks = plural(parameter.partition.num_blocks, "block")
        lines.append(Text(f"partition: {parameter.partition}  ({blocks})"))
    if parameter.verdict == "invariant":
        lines.append(Text(f"channel_dims={parameter.channel_dims}, channel_groups={parameter.channel_groups}"))
    if parameter.norms:
        lines.append(Text(f"scale removed by: {', '.join(parameter.norms)}"))
    if parameter.partners:
        lines.append(Text(f"jointly with: {', '.join(parameter.partners)}"))
    if parameter.aliases:
        lines.append(Text(f"tied with: {', '.join(parameter.aliases)}"))
    if parameter.roles != ("other",):
        lines.append(Text(f"role: {' and '.join(parameter.roles)}"))
    lines += [Text(split_text(split)) for split in parameter.splits]
    if not parameter.trainable:
        lines.append(Text("frozen: requires no gradient"))
    if parameter.eps:
        lines.append(Text("* holds up to an eps written in the model's own code"))
    if parameter.reason:
        lines.append(Text(parameter.reason))
    return lines


def split_text(split: Split) -> str:
    """Describe one logical matrix of a fused parameter."""
    ranges = ", ".join(f"{start}:{stop}" for start, stop in split.rows)
    many = f" in {split.matrices} equal parts" if split.matrices > 1 else ""
    return f"part: {ranges} of dim {split.dim}{many}, read by {split.consumer} in {split.module or '(model)'}"


def _symmetries(report: Report, name: str) -> list[Text]:
    """What else may be rescaled together with a parameter, with the power that each member takes."""
    lines: list[Text] = []
    for symmetry in report.symmetries_of(name):
        if symmetry.kind != "scale":
            members = sorted(symmetry.members, key=lambda m: m.parameter != name)
            shown = ", ".join(f"{m} × {power_text(m.power / members[0].power)}" for m in members[:4])
            more = f" and {len(members) - 4} more" if len(members) > 4 else ""
            copies = f", {symmetry.count} independent copies" if symmetry.count > 1 else ""
            lines.append(Text(f"{symmetry.kind}: {shown}{more}{copies}"))
    return lines


def _step_line(number: int, step: Step, digits: int) -> Text:
    text = Text.assemble(f"{number:>{digits}}  ", (step.operator, "cyan"), f"  in {step.module or '(model)'}")
    return text.append(f"  at {step.source}" if step.source else "", style="dim")
