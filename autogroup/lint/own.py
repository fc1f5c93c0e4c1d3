"""Findings of the analysis itself: parameters that cost memory and do nothing, and operators without a rule."""

from __future__ import annotations

from autogroup.lint.finding import Finding
from autogroup.report import ParameterReport, Report


def lint(report: Report) -> tuple[Finding, ...]:
    """List the trainable parameters that training cannot use, and those that the analysis could not follow.

    Args:
        report: what ``analyze`` returned.

    Returns:
        At most one finding per parameter, in model order. Codes: ``dead-bias``, ``dead``, ``unused``, ``unknown``.

    Example:
        >>> import torch
        >>> from autogroup import analyze
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> for finding in lint(analyze(model, torch.zeros(2, 3, 8, 8))):
        ...     print(f"{finding.parameter}: {finding.what}; {finding.advice}")
        0.bias: adds what batch_norm subtracts again (batch_norm in 1); build the layer with bias=False
    """
    found = (_finding(p) for p in report.parameters.values() if p.trainable)
    return tuple(finding for finding in found if finding is not None)


def _finding(p: ParameterReport) -> Finding | None:
    match p.verdict:
        case "dead" if p.role == "bias" and p.partition is None:
            return Finding("dead-bias", p.name, p.reason, "build the layer with bias=False")
        case "dead":
            return Finding("dead", p.name, p.reason, "remove it, or freeze it with requires_grad_(False)")
        case "unused":
            advice = "remove it, or freeze it: DistributedDataParallel waits for the gradient it never gets"
            return Finding("unused", p.name, p.reason, advice)
        case "unknown":
            advice = "treated as not invariant; CONTRIBUTING.md tells how to add a rule"
            return Finding("unknown", p.name, p.reason, advice)
        case _:
            return None
