"""Numeric proof of a report on the user's own model.

Euler's identity: if multiplying block b of a weight by any factor leaves the loss unchanged, then ⟨w_b, ∂L/∂w_b⟩ = 0.
One backward pass of a float64 twin of the model gives that number for every block of every parameter at once.
A claim that is false fails at almost every random point, so one point decides, unless a gradient is zero there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from torch import nn

from autogroup.capture.inputs import as_call, guess_inputs, without_cache
from autogroup.certificate import twin as twins
from autogroup.certificate.evidence import NOISE, Evidence, Point, Proof, Status
from autogroup.certificate.rescaling import every_entry, one_copy, output_changes
from autogroup.errors import GroupError
from autogroup.progress import Progress, silent
from autogroup.report import Report
from autogroup.symmetry import Symmetry, scale_symmetry

_POINTS = 3
"""Random points tried while some block has no gradient: a ReLU may switch off a channel at one of them."""

_DEAD_CHANGE = 1e-5
"""Relative change of the outputs from which on a parameter is not dead."""

_RESCALE_SLACK = 1e3
"""Outputs carry the rounding errors of a whole forward pass; their tolerance is this much wider."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The proofs of every claim of a report: of parameters by name, and of symmetries of several parameters."""

    proofs: Mapping[str, Proof]
    tolerance: float
    seed: int

    @property
    def ok(self) -> bool:
        """Whether no claim is refuted."""
        return not self.refuted

    @property
    def refuted(self) -> tuple[Proof, ...]:
        """The refuted claims, the worst first."""
        return tuple(sorted((p for p in self.proofs.values() if p.status == "refuted"), key=lambda p: -p.worst))

    def counts(self) -> dict[str, int]:
        """Return how many claims are proved, refuted and undecided."""
        found = Counter(proof.status for proof in self.proofs.values())
        return {status: found[status] for status in ("proved", "refuted", "undecided")}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "ok": self.ok,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "counts": self.counts(),
            "proofs": [asdict(proof) for proof in self.proofs.values()],
        }

    def __str__(self) -> str:
        """Summarize in one line, then one line per refuted or undecided claim."""
        counts = self.counts()
        worst = max((p.worst for p in self.proofs.values() if p.status == "proved"), default=0.0)
        lines = [f"{len(self.proofs)} claims: " + ", ".join(f"{n} {status}" for status, n in counts.items())]
        lines[0] += f" (worst proved {worst:.1e}, tolerance {self.tolerance:.0e})"
        for proof in (*self.refuted, *(p for p in self.proofs.values() if p.status == "undecided")):
            detail = f"Euler residual {proof.worst:.1e}"
            if proof.rescale is not None:
                detail += f", outputs change by {proof.rescale:.1e}"
            if proof.undecided_blocks:
                detail += f", {proof.undecided_blocks} of {proof.blocks} blocks without gradient"
            lines.append(f"{proof.status:>9}  {proof.name}: {detail}")
        return "\n".join(lines)


def certify(
    model: nn.Module,
    report: Report,
    args: object = None,
    kwargs: dict[str, Any] | None = None,
    *,
    rescale: bool = False,
    tolerance: float = 1e-9,
    seed: int = 0,
    progress: Progress = silent,
) -> Certificate:
    """Test every claim of ``report`` numerically on a float64 copy of ``model``.

    Invariant and partial parameters: Euler's identity on every block. Symmetries of several parameters: the same on
    the sum over their members. Dead parameters: no gradient at all.

    The copy lives on the CPU, with every eps near zero, casts to lower precision undone, dropout keeping
    everything, generic random parameters and inputs, and a random loss of all outputs. The model itself and the
    random generators stay as they are.

    Args:
        model: the analyzed module; frozen parameters are tested too.
        report: what ``analyze`` returned for it.
        args: positional example inputs as for ``analyze``; floating ones only lend their shape.
        kwargs: keyword example inputs. With neither, inputs are guessed from the model.
        rescale: also multiply one random block per parameter by a random factor, a few times, and compare the outputs.
        tolerance: bound on |⟨w_b, g_b⟩| / (‖w_b‖‖g_b‖), unitless.
        seed: of every random choice.
        progress: called as ``progress("certify", done, total)`` with the number of claims decided so far.

    Returns:
        A ``Certificate``: each claim is proved, refuted, or undecided (some block has no gradient at all).

    Raises:
        CaptureError: if the model cannot be copied or its forward fails.
        InputError: if the inputs are of the wrong kind, or none could be guessed.
        GroupError: if the report is of another model.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))
        >>> from autogroup import ParameterReport, Partition
        >>> claim = ParameterReport("0.weight", (4, 3), "invariant", "", Partition.from_dims((4, 3), (0,)))
        >>> print(certify(model, Report({"0.weight": claim}), (torch.zeros(8, 3),)).counts())
        {'proved': 1, 'refuted': 0, 'undecided': 0}
    """
    if args is None and kwargs is None:
        positional, named, _ = guess_inputs(model)
    else:
        positional, named = as_call(args, kwargs)
    named, _ = without_cache(model, positional, named)
    claims = _claims(report)
    mode = str(report.capture.get("mode", "train"))
    evidence = {name: Evidence.none(claim) for name, claim in claims.items()}
    dead = {name: 0.0 for name, p in report.parameters.items() if p.verdict == "dead"}
    progress("certify", 0, len(claims))
    for number in range(_POINTS):
        samples = twins.euler_sample(model, positional, named, mode=mode, seed=seed + number)
        _check_fit(claims, samples)
        scale = _median_sensitivity(samples)
        dead = {name: max(most, _sensitivity(samples[name]) / scale) for name, most in dead.items()}
        at = Point(samples)
        decided = 0
        for name, claim in claims.items():
            evidence[name] = evidence[name].update(claim, at, scale, tolerance)
            decided += bool(evidence[name].decided.all())
            progress("certify", decided, len(claims))
        if decided == len(claims):
            break
    proofs = {name: e.proof(name, tolerance) for name, e in evidence.items()}
    if rescale and claims:
        draws = {name: partial(one_copy, claim) for name, claim in claims.items()}
        changes = output_changes(model, draws, positional, named, mode, seed, tolerance * _RESCALE_SLACK)
        proofs = {name: _with_rescale(p, changes[name], tolerance * _RESCALE_SLACK) for name, p in proofs.items()}
    shapes = {name: report.parameters[name].shape for name in dead}
    doubtful = {n: partial(every_entry, n, shapes[n]) for n, most in dead.items() if most >= NOISE}
    # A norm of a constant amplifies rounding into a gradient; the outputs tell whether there is more to it.
    seen = output_changes(model, doubtful, positional, named, mode, seed, _DEAD_CHANGE) if doubtful else {}
    for name, most in dead.items():
        status: Status = "refuted" if seen.get(name, 0.0) >= _DEAD_CHANGE else "proved"
        proofs[name] = Proof(name, status, most, 1, 0, seen.get(name))
    return Certificate(proofs, tolerance, seed)


def _claims(report: Report) -> dict[str, Symmetry]:
    """Everything that a report says may be rescaled: single parameters by name, sets of them by a name of their own."""
    claims = {
        name: scale_symmetry(name, p.partition)
        for name, p in report.parameters.items()
        if p.partition is not None and p.verdict in ("invariant", "partial")
    }
    for number, symmetry in enumerate(report.symmetries):
        first, *others = symmetry.parameters
        if others or (first not in claims and report.parameters[first].verdict != "dead"):
            more = f" and {len(others)} more" if others else ""
            claims[f"{symmetry.kind} {number} of {first}{more}"] = symmetry
    return claims


def _sensitivity(sample: twins.Sample) -> float:
    """‖w‖‖g‖: how much the loss depends on a parameter."""
    return math.sqrt(float(sample.weight.abs().square().sum() * sample.grad.abs().square().sum()))


def _median_sensitivity(samples: Mapping[str, twins.Sample]) -> float:
    """Median of ‖w‖‖g‖ over the parameters whose gradient is more than rounding."""
    sizes = list(map(_sensitivity, samples.values()))
    largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
    return median([size for size in sizes if NOISE * largest < size < math.inf] or [1.0])


def _check_fit(claims: Mapping[str, Symmetry], samples: Mapping[str, twins.Sample]) -> None:
    for name, shape in {m.parameter: m.shape for claim in claims.values() for m in claim.members}.items():
        if name not in samples:
            raise GroupError(f"the report names {name!r}, which the model does not have; analyze this model first")
        if tuple(samples[name].weight.shape) != shape:
            found = tuple(samples[name].weight.shape)
            raise GroupError(f"{name!r} has shape {shape} in the report and {found} in the model")


def _with_rescale(proof: Proof, change: float, tolerance: float) -> Proof:
    return replace(proof, status="refuted" if change >= tolerance else proof.status, rescale=change)
