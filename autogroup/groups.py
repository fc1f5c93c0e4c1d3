"""Report + model -> parameter groups for any ``torch.optim`` optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from torch import nn

from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.errors import GroupError

_NEVER_DECAYED = frozenset({"norm_scale", "norm_shift", "bias"})
_Key: TypeAlias = tuple[tuple[int, ...] | None, int | None, float | None]


class Found(Protocol):
    """What grouping needs to know of a parameter."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        ...

    @property
    def verdict(self) -> str:
        """The verdict, one of ``autogroup.report.VERDICTS``."""
        ...

    @property
    def role(self) -> str:
        """The role, one of ``autogroup.report.ROLES``."""
        ...

    @property
    def channel_dims(self) -> tuple[int, ...] | None:
        """Dims whose index names the block, or ``None``."""
        ...

    @property
    def channel_groups(self) -> int | None:
        """Number of blocks the first of these is cut into, or ``None``."""
        ...


class Findings(Protocol):
    """A report, as far as grouping looks at it: ``Report`` itself has a method that calls this file."""

    @property
    def parameters(self) -> Mapping[str, Found]:
        """FQN → what was found."""
        ...


def param_groups(
    report: Findings, model: nn.Module, *, weight_decay: float | None = None, decay_invariant: bool = True
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of ``model`` into groups that share their optimizer settings.

    Args:
        report: the analysis of this model, or of the same architecture before it was wrapped.
        model: the module whose parameters go into the optimizer; DDP, compiled and FSDP2 models are fine.
        weight_decay: ``None`` writes no decay into the groups. A number goes to weights and kernels, while
            norm scales, norm shifts and biases get 0.
        decay_invariant: whether scale-invariant weights get ``weight_decay`` too. Decay does not limit what
            such a weight can compute; it only raises its effective learning rate.

    Returns:
        Non-empty dicts with the keys ``params``, ``param_names`` (FQNs in the same order), ``channel_dims``,
        ``channel_groups`` and, if asked for, ``weight_decay``. Every parameter with ``requires_grad`` is in
        exactly one group, a tied one under its first FQN. Order follows ``model.named_parameters()``.

    Raises:
        GroupError: nothing is trainable, the report does not fit the model, or the decay is not a number >= 0.

    Example:
        >>> from autogroup import ParameterReport, Report
        >>> model = nn.Linear(2, 3)
        >>> weight = ParameterReport("weight", (3, 2), "variant", "reaches the output", role="head")
        >>> bias = ParameterReport("bias", (3,), "variant", "reaches the output", role="bias")
        >>> groups = param_groups(Report({"weight": weight, "bias": bias}), model, weight_decay=0.1)
        >>> [(group["param_names"], group["weight_decay"]) for group in groups]
        [(['weight'], 0.1), (['bias'], 0.0)]
    """
    if weight_decay is not None:
        _check_decay(weight_decay)
    named = {clean_fqn(name): parameter for name, parameter in unwrap(model).named_parameters()}
    _check_fit(report, model, named)
    groups: dict[_Key, dict[str, Any]] = {}
    for name, parameter in named.items():
        if not parameter.requires_grad:
            continue
        found = report.parameters[name]
        decay = None if weight_decay is None else _decay(found, weight_decay, decay_invariant)
        key = (found.channel_dims, found.channel_groups, decay)
        group = groups.get(key)
        if group is None:
            group = {"params": [], "param_names": [], "channel_dims": key[0], "channel_groups": key[1]}
            groups[key] = group if decay is None else group | {"weight_decay": decay}
            group = groups[key]
        group["params"].append(parameter)
        group["param_names"].append(name)
    return list(groups.values())


def _decay(found: Found, weight_decay: float, decay_invariant: bool) -> float:
    if found.role in _NEVER_DECAYED:
        return 0.0
    return float(weight_decay) if decay_invariant or found.verdict != "invariant" else 0.0


def _check_decay(weight_decay: float) -> None:
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, int | float):
        raise GroupError(f"weight_decay is {weight_decay!r}; it must be a number >= 0, or None for no decay policy")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise GroupError(f"weight_decay is {weight_decay}; it must be finite and >= 0")


def _check_fit(report: Findings, model: nn.Module, named: dict[str, nn.Parameter]) -> None:
    """Refuse a model without trainable parameters, and a report of another model."""
    name = type(unwrap(model)).__name__
    if not named:
        raise GroupError(f"{name} has no parameters, so there is nothing to group")
    if not any(parameter.requires_grad for parameter in named.values()):
        raise GroupError(
            f"all {len(named)} parameters of {name} are frozen (requires_grad=False), so there is nothing to train: "
            "call requires_grad_(True) on those you want in the optimizer, then ask for the groups again"
        )
    known = report.parameters
    problems = [
        *_listing("only in the model", [n for n in named if n not in known]),
        *_listing("only in the report", [n for n in known if n not in named]),
        *_listing(
            "of another shape",
            [
                f"{n} (model {tuple(p.shape)}, report {known[n].shape})"
                for n, p in named.items()
                if n in known and tuple(p.shape) != known[n].shape
            ],
        ),
    ]
    if problems:
        raise GroupError(
            f"the report does not describe this {name}: {'; '.join(problems)}. "
            "Analyze this model, or group before anything renames or reshapes its parameters"
        )


def _listing(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{what}: {', '.join(names[:5])}{more}"]
