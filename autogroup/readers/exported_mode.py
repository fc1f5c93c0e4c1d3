"""Training or evaluation: an exported graph has the mode of its norms and dropouts as numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from autogroup.capture import Capture
from autogroup.capture.schema import schema_arguments

_FLAGS = ("training", "train", "use_input_stats")
_STATISTICS = "running_mean"
_aten = torch.ops.aten
_WITH_FLAG = (_aten._native_batch_norm_legit.default, _aten._native_batch_norm_legit_functional.default)
_WITHOUT_FLAG = _aten._native_batch_norm_legit_no_training.default


def as_batch_norm(target: Any, args: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the arguments of ``aten.batch_norm`` for an operator that a decomposition put in its place, if it is one.

    Those operators also return the statistics, as running ones or for the backward pass; the values are the same.
    """
    if target in _WITH_FLAG:
        return (*args, False)
    if target is _WITHOUT_FLAG:
        *tensors, momentum, eps = args
        return (*tensors, False, momentum, eps, False)
    return None


def recorded_mode(target: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool | None:
    """Return whether an operator was recorded in training mode; ``None`` if the mode changes nothing for it."""
    if target is _WITHOUT_FLAG:
        return False
    named = {a.name: (i, a) for i, a in enumerate(schema_arguments(target))}
    flag = next((name for name in _FLAGS if name in named), None)
    if flag is None:
        return None

    def given(name: str) -> Any:
        place, argument = named[name]
        return args[place] if place < len(args) else kwargs.get(name, argument.default_value)

    if _STATISTICS in named and given(_STATISTICS) is None:
        return None  # without running statistics a norm uses those of the batch in either mode
    return bool(given(flag))


def as_in_training(capture: Capture) -> Capture:
    """Turn a graph that was exported in evaluation mode into that of training; it is changed in place.

    Args:
        capture: of mode "eval": its norms use running statistics, and its dropouts do nothing.

    Returns:
        The graph in which norms use the statistics of the batch, with a note that says so.
    """
    for node in list(capture.graph.nodes):
        if not isinstance(node.target, OpOverload) or node.target is _WITHOUT_FLAG:
            continue
        if recorded_mode(node.target, node.args, node.kwargs) is False:
            _train(node)
    note = (
        "exported in evaluation mode and analyzed as in training: norms with running statistics were taken to use "
        "those of the batch (--mode eval analyzes the graph as it is)"
    )
    notes = [text for text in capture.notes if "evaluation mode" not in text]
    return replace(capture, mode="train", notes=(*notes, note))


def _train(node: fx.Node) -> None:
    assert isinstance(node.target, OpOverload)
    place, name = next((i, a.name) for i, a in enumerate(schema_arguments(node.target)) if a.name in _FLAGS)
    if place < len(node.args):
        node.update_arg(place, True)
    else:
        node.update_kwarg(name, True)
