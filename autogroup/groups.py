"""Report + model -> parameter groups for any ``torch.optim`` optimizer.

A policy looks at one parameter and names some settings of its group; parameters with equal settings share a group.
Policies are combined, never applied on top of each other: two that disagree about a setting are an error. Only an
override, which names parameters one by one, has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeAlias

from torch import nn

from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.errors import GroupError

_NEVER_DECAYED = frozenset({"norm_scale", "norm_shift", "bias"})
_RESERVED = frozenset({"params", "param_names", "channel_dims", "channel_groups"})
_NOT_NEGATIVE = frozenset({"lr", "lr_scale", "weight_decay"})


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
    def depth(self) -> int:
        """Number of layers that run before the parameter is first used."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Further FQNs of a tied parameter."""
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


Policy: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""Takes what was found of a parameter, and returns settings of its group: plain Python data."""
Overrides: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Pattern of FQNs, with ``*``, ``?`` and ``[…]`` as in a shell → settings of the groups of those parameters."""


def param_groups(
    report: Findings,
    model: nn.Module,
    *,
    weight_decay: float | None = None,
    decay_invariant: bool = True,
    layer_decay: float | None = None,
    lr: float | None = None,
    overrides: Overrides | None = None,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of ``model`` into groups that share their optimizer settings.

    Args:
        report: the analysis of this model, or of the same architecture before it was wrapped.
        model: the module whose parameters go into the optimizer; DDP, compiled and FSDP2 models are fine.
        weight_decay: ``None`` writes no decay into the groups. A number >= 0 goes to matrices, kernels and lookup
            tables, token embeddings included. Norm scales, norm shifts, biases and whatever else is only added
            or multiplied on (class tokens, added position tables, layer scales) get 0.
        decay_invariant: whether scale-invariant weights get ``weight_decay`` too. Decay does not limit what
            such a weight can compute; it only raises its effective learning rate.
        layer_decay: factor in (0, 1] by which the learning rate shrinks from each layer to the one before it,
            see ``autogroup.infer.depth``. Without ``lr`` the groups get ``lr_scale``, which has no effect unless
            the training loop or scheduler reads it, as timm's do. With ``lr`` they get ``lr``, already
            scaled, and no ``lr_scale``: right for ``torch.optim`` and its schedulers.
        lr: learning rate >= 0 of the last layer, or of all groups without ``layer_decay``.
        overrides: pattern of FQNs (``*`` matches dots as well) → settings that replace or join those of the
            policies, e.g. ``{"*.gamma": {"weight_decay": 0.0}, "head.*": {"lr": 1e-2}}``. A tied parameter is
            found under each of its names. An ``lr`` given here is not scaled by ``layer_decay``.

    Returns:
        Non-empty dicts with the keys ``params``, ``param_names`` (FQNs in the same order), ``channel_dims``,
        ``channel_groups`` and those asked for. Every parameter with ``requires_grad`` is in exactly one group, a
        tied one under its first FQN. Order follows ``model.named_parameters()``.

    Raises:
        GroupError: nothing is trainable, the report does not fit the model, a number is out of bounds, or an
            override matches no parameter, sets a reserved key, or contradicts another one.

    Example:
        >>> from autogroup import ParameterReport, Report
        >>> model = nn.Linear(2, 3)
        >>> weight = ParameterReport("weight", (3, 2), "variant", "reaches the output", role="head")
        >>> bias = ParameterReport("bias", (3,), "variant", "reaches the output", role="bias")
        >>> groups = param_groups(Report({"weight": weight, "bias": bias}), model, weight_decay=0.1)
        >>> [(group["param_names"], group["weight_decay"]) for group in groups]
        [(['weight'], 0.1), (['bias'], 0.0)]
    """
    policies = [
        partition_policy,
        decay_policy(weight_decay, decay_invariant=decay_invariant),
        depth_policy(report, layer_decay=layer_decay, lr=lr),
    ]
    return grouped(report, model, policies, overrides)


def grouped(
    report: Findings, model: nn.Module, policies: Iterable[Policy], overrides: Overrides | None = None
) -> list[dict[str, Any]]:
    """Group the trainable parameters of ``model`` by the settings that all policies together give them.

    Args:
        report: the analysis of this model.
        model: the module whose parameters go into the optimizer.
        policies: functions from what was found of a parameter to settings.
        overrides: pattern of FQNs → settings, see ``param_groups``.

    Returns:
        Groups as from ``param_groups``, with the keys that the policies set.

    Raises:
        GroupError: as for ``param_groups``, or two policies set one key to different values.

    Example:
        >>> from autogroup import ParameterReport, Report
        >>> report = Report({"weight": ParameterReport("weight", (3, 2), "variant", "", role="head")})
        >>> groups = grouped(report, nn.Linear(2, 3, bias=False), [lambda found: {"clip": found.role != "head"}])
        >>> groups[0]["clip"]
        False
    """
    policies = list(policies)
    named = {clean_fqn(name): parameter for name, parameter in unwrap(model).named_parameters()}
    _check_fit(report, model, named)
    exceptions = _exceptions(report, overrides or {})
    groups: dict[object, dict[str, Any]] = {}
    for name, parameter in named.items():
        if not parameter.requires_grad:
            continue
        found = report.parameters[name]
        settings: dict[str, Any] = {}
        for policy in policies:
            _combine(settings, policy(found), f"two policies disagree about {name}")
        settings |= exceptions.get(name, {})
        # By text, since settings may be lists, and since True, 1 and 1.0 are equal but not the same setting.
        key = tuple(sorted((key, repr(value)) for key, value in settings.items()))
        group = groups.setdefault(key, {"params": [], "param_names": [], **deepcopy(settings)})
        group["params"].append(parameter)
        group["param_names"].append(name)
    return list(groups.values())


def partition_policy(found: Found) -> dict[str, Any]:
    """The blocks of a scale-invariant parameter; ``None`` for all others, whatever their verdict."""
    return {"channel_dims": found.channel_dims, "channel_groups": found.channel_groups}


def decay_policy(weight_decay: float | None, *, decay_invariant: bool = True) -> Policy:
    """Decay for what multiplies the data; see ``param_groups``."""
    if weight_decay is None:
        return lambda found: {}
    check_number("weight_decay", weight_decay, "a finite number >= 0, or None for no decay policy")

    def policy(found: Found) -> dict[str, Any]:
        spared = not is_weight(found) or (found.verdict == "invariant" and not decay_invariant)
        return {"weight_decay": 0.0 if spared else float(weight_decay)}

    return policy


def depth_policy(report: Findings, *, layer_decay: float | None, lr: float | None) -> Policy:
    """A learning rate for each layer; see ``param_groups``."""
    if lr is not None:
        check_number("lr", lr, "a finite number >= 0, or None to leave it to the optimizer")
    if layer_decay is None:
        return lambda found: {} if lr is None else {"lr": float(lr)}
    check_number("layer_decay", layer_decay, "in (0, 1], or None for one learning rate", most=1)
    if layer_decay == 0:
        raise GroupError("layer_decay is 0, which would freeze all layers but the last; it must be in (0, 1]")
    last = max((found.depth for found in report.parameters.values()), default=0)

    def policy(found: Found) -> dict[str, Any]:
        scale = float(layer_decay) ** (last - found.depth)
        return {"lr_scale": scale} if lr is None else {"lr": lr * scale}

    return policy


def is_weight(found: Found) -> bool:
    """Whether a parameter is a matrix, a kernel or a lookup table, not a term, a gain or a vector.

    A tensor of no known role counts if it is a matrix that a norm follows (a kernel that is standardized or
    normalized before it is used) or that met an operator without a rule; a position table does not.
    """
    if found.role == "other":
        is_matrix = sum(size > 1 for size in found.shape) > 1
        return is_matrix and found.verdict in ("invariant", "partial", "unknown")
    return found.role not in _NEVER_DECAYED


def check_number(name: str, value: Any, rule: str, *, most: float = math.inf, where: str = "") -> None:
    """Refuse what is not a finite number from 0 to ``most``, with a ``GroupError`` that states the rule."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and 0 <= value <= most):
        raise GroupError(f"{where}{name} is {value!r}; it must be {rule}")


def _combine(settings: dict[str, Any], more: Mapping[str, Any], problem: str) -> None:
    for key, value in more.items():
        if key in settings and repr(settings[key]) != repr(value):
            raise GroupError(f"{problem}: {key} is {settings[key]!r} for one and {value!r} for the other")
        settings[key] = value


def _exceptions(report: Findings, overrides: Overrides) -> dict[str, dict[str, Any]]:
    """FQN → the settings that override those of the policies."""
    found: dict[str, dict[str, Any]] = {}
    origin: dict[tuple[str, str], str] = {}
    names = {alias: name for name, p in report.parameters.items() for alias in (name, *p.aliases)}
    for pattern, settings in overrides.items():
        _check_settings(pattern, settings)
        matched = dict.fromkeys(name for alias, name in names.items() if fnmatchcase(alias, pattern))
        if not matched:
            raise GroupError(f"override {pattern!r} matches no parameter{_near_misses(pattern, list(names))}")
        for name in matched:
            own = found.setdefault(name, {})
            for key in settings:
                first = origin.setdefault((name, key), pattern)
                _combine(own, {key: settings[key]}, f"overrides {first!r} and {pattern!r} disagree about {name}")
    return found


def _near_misses(pattern: str, names: list[str]) -> str:
    """Names that are spelled alike, or that hold the longest plain part of a pattern."""
    plain = max(pattern.replace("?", "*").split("*"), key=len).strip(".")
    near = get_close_matches(pattern, names, n=3) or [name for name in names if plain and plain in name][:3]
    near = near or get_close_matches(plain, sorted({part for name in names for part in name.split(".")}), n=3)
    shown = near or names[:3]
    return f"; {'did you mean' if near else 'there are'} {', '.join(shown)}? It must match the whole name"


def _check_settings(pattern: str, settings: Mapping[str, Any]) -> None:
    reserved = sorted(_RESERVED & set(settings))
    if reserved:
        raise GroupError(f"override {pattern!r} sets {', '.join(reserved)}, which only the analysis may set")
    for key, value in settings.items():
        if not _is_plain(value):
            raise GroupError(
                f"override {pattern!r} sets {key} to a {type(value).__name__}; group settings are plain Python "
                "numbers, texts, None, or lists and tuples of them"
            )
        if key in _NOT_NEGATIVE:
            check_number(key, value, "a finite number >= 0", where=f"override {pattern!r}: ")


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


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
