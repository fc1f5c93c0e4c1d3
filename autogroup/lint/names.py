"""The name filter of the AdamSRT readme, which takes a convolution's name for proof that a norm follows it."""

from __future__ import annotations

from autogroup.lint.finding import Finding
from autogroup.partition import Partition
from autogroup.report import ParameterReport, Report


def against_names(report: Report) -> tuple[Finding, ...]:
    """Compare with ``"conv" in name or "downsample.0" in name``, meant as: invariant for every index of dim 0.

    A parameter that the analysis could not follow is passed over, and so is one that the loss does not depend on:
    no claim about it can be false.

    Args:
        report: what ``analyze`` returned.

    Returns:
        The trainable parameters on which the filter is wrong, in model order. Codes: ``false-claim``, ``missed``.

    Example:
        >>> bias = ParameterReport("conv.bias", (8,), "variant", "reaches the output with its scale", role="bias")
        >>> print(*(finding.what for finding in against_names(Report({"conv.bias": bias}))))
        taken, but variant: reaches the output with its scale
    """
    findings: list[Finding] = []
    advice = "take the groups of auto_param_groups"
    for p in report.parameters.values():
        if not p.trainable or p.verdict in ("dead", "unused", "unknown"):
            continue
        if "conv" in p.name or "downsample.0" in p.name:
            problem = _false_claim(p)
            if problem:
                findings.append(Finding("false-claim", p.name, f"taken, but {problem}", advice))
        elif p.verdict == "invariant":
            what = f"not taken, but invariant, {p.partition}: {p.reason}"
            findings.append(Finding("missed", p.name, what, advice))
    return tuple(findings)


def _false_claim(p: ParameterReport) -> str | None:
    """Why a parameter is not invariant for every index of dim 0; ``None`` if it is."""
    if p.verdict != "invariant" or p.partition is None:
        return f"{p.verdict}: {p.reason}"
    if p.shape and p.partition.refines(Partition.from_dims(p.shape, (0,))):
        return None
    return f"invariant over larger blocks only, {p.partition}: {p.reason}"
