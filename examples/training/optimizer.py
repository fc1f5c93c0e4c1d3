"""An optimizer by name, with the parameter groups that the analysis of the model gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from autogroup import Report, recipes
from optimizers import SAM, list_optimizers, load_optimizer, load_wrapper
from training.settings import Settings, UsageError

UNFIT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
"""Classes of torch.optim that cannot train these models: no groups, sparse gradients only, matrices only."""


def torch_optimizers() -> dict[str, type[Optimizer]]:
    """Return the classes of torch.optim, by name in lower case."""
    found = {name.lower(): value for name, value in vars(torch.optim).items() if name not in UNFIT}
    return {name: cls for name, cls in found.items() if inspect.isclass(cls) and issubclass(cls, Optimizer)}


def optimizer_class(name: str) -> type[Optimizer]:
    """Return a class of ``optimizers``, else of ``torch.optim``; ``torch.NAME`` always means the latter."""
    torch_name = name.lower().removeprefix("torch.")
    known = torch_optimizers()
    if not name.lower().startswith("torch."):
        try:
            return load_optimizer(name)
        except ValueError:
            pass
    if torch_name in known:
        return known[torch_name]
    close = get_close_matches(torch_name, [*list_optimizers(), *known], n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "--list shows all names"
    raise UsageError(f"no optimizer is called {name!r}: {hint}")


def wrapper_class(name: str) -> type[Optimizer]:
    """Return a wrapper that fits a loop with one loss."""
    try:
        found = load_wrapper(name)
    except ValueError as error:
        raise UsageError(f"--wrap: {error}") from None
    if name.lower() == "pcgrad":
        raise UsageError("--wrap pcgrad: PCGrad balances the gradients of several losses, and here there is one")
    return found


def options_of(cls: type[Optimizer]) -> list[str]:
    """Return the names that ``--set`` may set."""
    given_here = ("self", "params", "optimizer", "base_optimizer", "kwargs", "generator", "channel_dims", "fused")
    return [name for name in inspect.signature(cls).parameters if name not in given_here]


def split_options(settings: Settings) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the options of the optimizer and those of each wrapper, after refusing what they do not have."""
    own: dict[str, Any] = {}
    wrapped: dict[str, dict[str, Any]] = {name: {} for name in settings.wrap}
    for key, value in settings.options.items():
        owner, _, option = key.rpartition(".")
        if owner and owner not in wrapped:
            raise UsageError(f"--set {key}: there is no --wrap {owner}")
        (wrapped[owner] if owner else own)[option] = tuple(value) if isinstance(value, list) else value
    checked = [(settings.optimizer, optimizer_class(settings.optimizer), own)]
    checked += [(name, wrapper_class(name), options) for name, options in wrapped.items()]
    for name, cls, options in checked:
        known = options_of(cls)
        for option in options:
            if option not in known:
                raise UsageError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    return own, wrapped


def own_schedule(cls: type[Optimizer]) -> bool:
    """Whether an optimizer changes its learning rates by itself."""
    return hasattr(cls, "epoch_step") or "num_iterations" in inspect.signature(cls).parameters


def schedule_of(settings: Settings) -> str:
    """Return the schedule asked for, or else the one that suits the optimizer."""
    return settings.schedule or ("constant" if own_schedule(optimizer_class(settings.optimizer)) else "cosine")


def param_groups(
    settings: Settings, report: Report, model: nn.Module, options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the groups of the model, which may be sharded by now, from the report on it before that."""
    decay = None if settings.decay == "all" else float(options.get("weight_decay", 0.0))
    clipping = inspect.signature(optimizer_class(settings.optimizer)).parameters.get("clipping")
    if clipping is None:
        return report.param_groups(model, weight_decay=decay, decay_invariant=settings.decay != "variant")
    if settings.decay == "variant":
        raise UsageError(f"--decay variant does not go with {settings.optimizer}: take --decay weights")
    # Adaptive gradient clipping leaves the head alone, which the recipe knows.
    limit = options.get("clipping", clipping.default) or 0.0
    return recipes.agc(report, model, clipping=float(limit), weight_decay=decay)


def build_optimizer(settings: Settings, report: Report, model: nn.Module, total_steps: int) -> Optimizer:
    """Return the optimizer with its wrappers.

    Args:
        settings: name, options, wrappers and decay policy.
        report: the analysis of the model before it was sharded.
        model: the model whose parameters are trained.
        total_steps: updates of the whole run, for optimizers with a schedule of their own.

    Raises:
        UsageError: an unknown name or option, or a value that the optimizer refuses.
    """
    cls = optimizer_class(settings.optimizer)
    own, wrapped = split_options(settings)
    known = inspect.signature(cls).parameters
    if "num_iterations" in known:
        own.setdefault("num_iterations", total_steps)
    if "disable_lr_scheduler" in known:
        own.setdefault("disable_lr_scheduler", schedule_of(settings) != "constant")
    try:
        optimizer = cls(param_groups(settings, report, model, own), **own)
        for name, options in wrapped.items():
            wrapper = wrapper_class(name)
            build = cast("Callable[..., Optimizer]", wrapper)
            if issubclass(wrapper, SAM):  # builds the optimizer inside from groups: here it exists, with its groups
                optimizer = build(optimizer.param_groups, lambda _, inner=optimizer: inner, **options)
            else:
                optimizer = build(optimizer, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{settings.optimizer} cannot be built: {error}") from None
    return optimizer


def innermost(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer inside all wrappers."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer
