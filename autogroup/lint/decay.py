"""Weight decay: where the rules of timm and transformers, which read names and shapes, differ from the roles.

The rules are restated here, so that neither library is needed; the tests hold them against the libraries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from torch import nn

from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.groups import is_weight
from autogroup.lint.finding import Finding
from autogroup.report import ParameterReport, Report, Role

_NORM_OR_BIAS = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")

_WHAT: dict[Role, str] = {
    "norm_scale": "it is the gain of a norm",
    "norm_shift": "it is the shift of a norm",
    "bias": "it is a bias",
    "embedding": "it is a lookup table",
    "head": "it is the weight of the last layer",
    "conv": "it is a convolution kernel",
    "linear": "it is the matrix of a linear map",
}


@dataclass(frozen=True, slots=True)
class _Decision:
    """Whether a rule decays a parameter, and by which part of it."""

    decays: bool
    why: str


def against_timm(report: Report, model: nn.Module | None = None) -> tuple[Finding, ...]:
    """Compare with timm: no decay for vectors, names that end in ``.bias``, and what ``no_weight_decay()`` lists.

    Args:
        report: what ``analyze`` returned.
        model: the analyzed model, asked for its ``no_weight_decay()``; without it nothing is listed.

    Returns:
        The trainable parameters that decay under one policy only, in model order. Codes: ``decayed``, ``spared``.

    Example:
        >>> gain = ParameterReport("scale", (1, 8, 1, 1), "variant", "", role="norm_scale")
        >>> print(*(finding.what for finding in against_timm(Report({"scale": gain}))))
        timm decays it (it has 4 axes); it is the gain of a norm
    """
    listed: Callable[[], Iterable[str]] = getattr(model, "no_weight_decay", tuple)
    patterns = tuple(listed())

    def decide(p: ParameterReport) -> _Decision:
        if any(fnmatch(p.name, pattern) for pattern in patterns):
            return _Decision(False, "no_weight_decay() lists it")
        if p.name.endswith(".bias"):
            return _Decision(False, "its name ends in .bias")
        axes = len(p.shape)
        return _Decision(axes > 1, f"it has {axes} {'axis' if axes == 1 else 'axes'}")

    return _compare(report, "timm", decide, "add it to the model's no_weight_decay()")


def against_transformers(report: Report, model: nn.Module) -> tuple[Finding, ...]:
    """Compare with the Trainer of transformers 5: no decay inside ``nn.LayerNorm`` and for names that say norm or bias.

    Args:
        report: what ``analyze`` returned.
        model: the analyzed model; this rule looks at the classes of its modules.

    Returns:
        The trainable parameters that decay under one policy only, in model order. Codes: ``decayed``, ``spared``.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        >>> gain = ParameterReport("1.weight", (8,), "variant", "", role="norm_scale")
        >>> print(*(finding.what for finding in against_transformers(Report({"1.weight": gain}), model)))
        transformers decays it (its name matches no pattern); it is the gain of a norm
    """
    modules: list[tuple[str, Any]] = [(clean_fqn(name), module) for name, module in unwrap(model).named_modules()]
    layer_norms = tuple(f"{name}." for name, module in modules if name and isinstance(module, nn.LayerNorm))

    def decide(p: ParameterReport) -> _Decision:
        if p.name.startswith(layer_norms):
            return _Decision(False, "it is inside an nn.LayerNorm")
        said = _NORM_OR_BIAS.search(p.name.lower())
        if said:
            return _Decision(False, f"its name has {said[0]!r}")
        return _Decision(True, "its name matches no pattern")

    return _compare(report, "transformers", decide, "override Trainer.get_decay_parameter_names")


def _compare(
    report: Report, who: str, decide: Callable[[ParameterReport], _Decision], how_to_spare: str
) -> tuple[Finding, ...]:
    """Hold a rule against the decay policy of ``autogroup.groups``."""
    findings: list[Finding] = []
    for p in report.parameters.values():
        decision = decide(p)
        if not p.trainable or p.verdict == "unused" or decision.decays == is_weight(p):
            continue
        if decision.decays:
            what = _WHAT.get(p.role, "it is added or multiplied on, not a matrix or a kernel")
            advice = f"give it weight_decay=0: {how_to_spare}, or use auto_param_groups"
            findings.append(Finding("decayed", p.name, f"{who} decays it ({decision.why}); {what}", advice))
        else:
            what = _WHAT.get(p.role, "it is a matrix or a kernel")
            advice = "decide whether it should decay; auto_param_groups decays it unless overrides say otherwise"
            findings.append(Finding("spared", p.name, f"{who} does not decay it ({decision.why}); {what}", advice))
    return tuple(findings)
