"""Numeric proof of a report on the user's own model.

Euler's identity: if multiplying block b of a weight by any factor leaves the loss unchanged, then ⟨w_b, ∂L/∂w_b⟩ = 0.
One backward pass of a float64 twin of the model gives that number for every block of every parameter at once.
A claim that is false fails at almost every random point, so one point decides, unless a gradient is zero there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from autogroup.capture.inputs import as_call, guess_inputs, without_cache
from autogroup.capture.unwrap import clean_fqn
from autogroup.certificate import twin as twins
from autogroup.errors import GroupError
from autogroup.partition import OUTSIDE, Partition
from autogroup.report import Report

Status = Literal["proved", "refuted", "undecided"]

_ZERO_GRADIENT = 1e-12
"""A block whose ‖w‖‖g‖ is below this share of the median parameter's has no gradient to judge by."""

_NOISE = 1e-8
"""An inner product below this share of the median parameter's ‖w‖‖g‖ cannot be told from rounding.

Norms amplify rounding where what they normalize is nearly constant, so this is far above the float64 epsilon.
"""

_POINTS = 3
"""Random points tried while some block has no gradient: a ReLU may switch off a channel at one of them."""

_DEAD_CHANGE = 1e-5
"""Relative change of the outputs from which on a parameter is not dead."""

_RESCALE_PASSES = 3
_RESCALE_SLACK = 1e3
"""Outputs carry the rounding errors of a whole forward pass; their tolerance is this much wider."""


@dataclass(frozen=True, slots=True)
class ParameterProof:
    """What the certificate says of one claim."""

    name: str
    status: Status
    worst: float
    """Largest |⟨w_b, g_b⟩| / (‖w_b‖‖g_b‖) over the blocks that have a gradient; for a dead parameter ‖w‖‖g‖
    relative to the median parameter's."""
    blocks: int
    undecided_blocks: int
    rescale: float | None = None
    """Largest relative change of the outputs after multiplying blocks by random factors; ``None`` if not tried."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The proofs of every invariant, partial or dead claim of a report, by parameter name."""

    proofs: Mapping[str, ParameterProof]
    tolerance: float
    seed: int

    @property
    def ok(self) -> bool:
        """Whether no claim is refuted."""
        return not self.refuted

    @property
    def refuted(self) -> tuple[ParameterProof, ...]:
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
) -> Certificate:
    """Test every claim of ``report`` numerically on a float64 copy of ``model``.

    Invariant and partial parameters: Euler's identity on every block. Dead ones: no gradient at all.

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

    Returns:
        A ``Certificate``: each claim is proved, refuted, or undecided (some block has no gradient at all).

    Raises:
        CaptureError: if the model cannot be copied or its forward fails.
        InputError: if the inputs are of the wrong kind, or none could be guessed.
        GroupError: if the report is of another model.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4))
        >>> from autogroup.report import ParameterReport
        >>> claim = ParameterReport("0.weight", (4, 3), "invariant", "", Partition.from_dims((4, 3), (0,)))
        >>> print(certify(model, Report({"0.weight": claim}), (torch.zeros(8, 3),)).counts())
        {'proved': 1, 'refuted': 0, 'undecided': 0}
    """
    if args is None and kwargs is None:
        positional, named, _ = guess_inputs(model)
    else:
        positional, named = as_call(args, kwargs)
    named, _ = without_cache(model, positional, named)
    claims = {name: p.partition for name, p in report.parameters.items() if p.partition is not None}
    mode = str(report.capture.get("mode", "train"))
    evidence = {name: _Evidence.none(p.num_blocks) for name, p in claims.items()}
    dead = {name: 0.0 for name, p in report.parameters.items() if p.verdict == "dead"}
    for point in range(_POINTS):
        samples = twins.euler_sample(model, positional, named, mode=mode, seed=seed + point)
        _check_fit(claims, samples)
        scale = _median_sensitivity(samples)
        dead = {name: max(most, _sensitivity(samples[name]) / scale) for name, most in dead.items()}
        evidence = {n: e.update(_per_block(samples[n], claims[n]), scale, tolerance) for n, e in evidence.items()}
        if all(bool(e.decided.all()) for e in evidence.values()):
            break
    proofs = {name: e.proof(name, tolerance) for name, e in evidence.items()}
    if rescale and claims:
        draws = {name: partial(_random_factor, partition) for name, partition in claims.items()}
        changes = _rescale(model, draws, positional, named, mode, seed, tolerance * _RESCALE_SLACK)
        proofs = {name: _with_rescale(p, changes[name], tolerance * _RESCALE_SLACK) for name, p in proofs.items()}
    doubtful = {n: partial(_random_factors, report.parameters[n].shape) for n, most in dead.items() if most >= _NOISE}
    # A norm of a constant amplifies rounding into a gradient; the outputs tell whether there is more to it.
    seen = _rescale(model, doubtful, positional, named, mode, seed, _DEAD_CHANGE) if doubtful else {}
    for name, most in dead.items():
        status: Status = "refuted" if seen.get(name, 0.0) >= _DEAD_CHANGE else "proved"
        proofs[name] = ParameterProof(name, status, most, 1, 0, seen.get(name))
    return Certificate(proofs, tolerance, seed)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the points tried so far say of each block of one claim; tensors of shape [blocks]."""

    worst: Tensor
    """Largest normalized inner product."""
    decided: Tensor
    """Bool: whether the block had a gradient at some point."""

    @classmethod
    def none(cls, blocks: int) -> _Evidence:
        return cls(torch.zeros(blocks, dtype=torch.float64), torch.zeros(blocks, dtype=torch.bool))

    def update(self, point: tuple[Tensor, Tensor], scale: float, tolerance: float) -> _Evidence:
        """Add ⟨w_b, g_b⟩ and ‖w_b‖‖g_b‖ at one point; ``scale`` is the yardstick for "no gradient"."""
        dot, size = point
        residual = dot.abs() / size.clamp_min(1e-300)
        clear = (residual < tolerance) | (dot.abs() > _NOISE * scale)
        decided = torch.isfinite(residual) & (size > _ZERO_GRADIENT * scale) & clear
        return _Evidence(torch.where(decided, self.worst.maximum(residual), self.worst), self.decided | decided)

    def proof(self, name: str, tolerance: float) -> ParameterProof:
        """Sum up: one block is enough to refute, all are needed to prove."""
        undecided = int((~self.decided).sum())
        worst = float(self.worst.max()) if self.worst.numel() else 0.0
        status: Status = "refuted" if worst >= tolerance else "undecided" if undecided else "proved"
        return ParameterProof(name, status, worst, self.worst.numel(), undecided)


def _per_block(sample: twins.Sample, partition: Partition) -> tuple[Tensor, Tensor]:
    """Return ⟨w_b, g_b⟩ and ‖w_b‖‖g_b‖, each of shape [blocks]."""
    labels = partition.labels.expand(partition.shape).reshape(-1)
    inside = labels != OUTSIDE
    index = labels[inside]

    def total(values: Tensor) -> Tensor:
        flat = values.reshape(-1)[inside]
        return torch.zeros(partition.num_blocks, dtype=torch.float64).index_add_(0, index, flat)

    weight, grad = total(sample.weight.abs().square()).sqrt(), total(sample.grad.abs().square()).sqrt()
    return total(sample.radial), weight * grad


def _sensitivity(sample: twins.Sample) -> float:
    """‖w‖‖g‖: how much the loss depends on a parameter."""
    return math.sqrt(float(sample.weight.abs().square().sum() * sample.grad.abs().square().sum()))


def _median_sensitivity(samples: Mapping[str, twins.Sample]) -> float:
    """Median of ‖w‖‖g‖ over the parameters whose gradient is more than rounding."""
    sizes = list(map(_sensitivity, samples.values()))
    largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
    return median([size for size in sizes if _NOISE * largest < size < math.inf] or [1.0])


def _check_fit(claims: Mapping[str, Partition], samples: Mapping[str, twins.Sample]) -> None:
    for name, partition in claims.items():
        if name not in samples:
            raise GroupError(f"the report names {name!r}, which the model does not have; analyze this model first")
        if tuple(samples[name].weight.shape) != partition.shape:
            found = tuple(samples[name].weight.shape)
            raise GroupError(f"{name!r} has shape {partition.shape} in the report and {found} in the model")


def _rescale(
    model: nn.Module,
    draws: Mapping[str, Callable[[torch.Generator], Tensor]],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mode: str,
    seed: int,
    tolerance: float,
) -> dict[str, float]:
    """Multiply parameters by the factors that ``draws`` gives and return the relative change of the outputs.

    All claims are rescaled at once; only if that changes the outputs is each one tried alone.
    """
    twin = twins.exact_copy(model, mode, seed)
    args, kwargs = twins.generic_inputs(args, seed + 1), twins.generic_inputs(dict(kwargs), seed + 2)
    buffers = {name: buffer.clone() for name, buffer in twin.named_buffers()}
    parameters = {clean_fqn(name): parameter for name, parameter in twin.named_parameters()}
    values = {name: parameter.data.clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(seed)

    def outputs(scaled: Mapping[str, Tensor]) -> Sequence[Tensor]:
        for name, parameter in parameters.items():
            parameter.data = values[name] * scaled[name] if name in scaled else values[name].clone()
        for name, buffer in twin.named_buffers():
            buffer.data = buffers[name].clone()
        return [out.detach() for out in twins.run(twin, args, kwargs, mode, seed)]

    before = outputs({})
    changes = dict.fromkeys(draws, 0.0)
    for _ in range(_RESCALE_PASSES):
        factors = {name: draw(generator) for name, draw in draws.items()}
        together = _change(before, outputs(factors))
        if together < tolerance:
            changes = {name: max(change, together) for name, change in changes.items()}
            continue
        for name in draws:
            changes[name] = max(changes[name], _change(before, outputs({name: factors[name]})))
    return changes


def _random_factor(partition: Partition, generator: torch.Generator) -> Tensor:
    """Return a tensor that broadcasts over the parameter: a factor in [1/4, 4] on one random block, 1 elsewhere."""
    block = int(torch.randint(max(1, partition.num_blocks), (1,), generator=generator))
    alpha = 4 ** float(torch.rand(1, generator=generator) * 2 - 1)
    return torch.where(partition.labels == block, alpha, 1.0).double()


def _random_factors(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a factor in [1/4, 4] for every entry."""
    return 4 ** (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1)


def _change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Largest change of an output entry relative to the largest entry of that output."""
    worst = 0.0
    for a, b in zip(before, after, strict=True):
        both = torch.isfinite(a) & torch.isfinite(b)
        if bool((torch.isfinite(a) != torch.isfinite(b)).any()):
            return math.inf
        if bool(both.any()):
            worst = max(worst, float((a - b)[both].abs().max() / a[both].abs().max().clamp_min(1e-300)))
    return worst


def _with_rescale(proof: ParameterProof, change: float, tolerance: float) -> ParameterProof:
    status: Status = "refuted" if change >= tolerance else proof.status
    return ParameterProof(proof.name, status, proof.worst, proof.blocks, proof.undecided_blocks, change)
