"""The two calls most people need: analyze a model, and get its parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from autogroup.capture import Capture, capture
from autogroup.capture.inputs import as_call, describe, guess_inputs, with_batch_of_two, without_cache
from autogroup.errors import CaptureError
from autogroup.infer import infer
from autogroup.progress import Progress, silent
from autogroup.report import Report


def analyze(
    model: nn.Module,
    args: object = None,
    kwargs: dict[str, Any] | None = None,
    *,
    mode: str = "train",
    progress: Progress = silent,
) -> Report:
    """Find out which parameters of a model are scale-invariant, over which blocks, and why.

    Args:
        model: any module: on any device or ``meta``, compiled, in DDP or FSDP2. It comes back untouched.
        args: positional example inputs as a tuple, or a single tensor; only shapes and dtypes matter.
        kwargs: keyword example inputs. With neither, inputs are guessed from the model.
        mode: "train" for the training loss, "eval" for the model in evaluation.
        progress: called as ``progress(stage, done, total)`` when a stage begins; ``print`` will do.

    Returns:
        The report, one entry per parameter.

    Raises:
        InputError: inputs are of the wrong kind, or none could be guessed.
        CaptureError: the forward cannot be traced.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> report = analyze(model, torch.zeros(2, 3, 32, 32))
        >>> report.parameters["0.weight"].channel_dims
        (0,)
    """
    progress("capture", 0, 1)
    if args is None and kwargs is None:
        positional, keyword, origin = guess_inputs(model)
    else:
        positional, keyword = as_call(args, kwargs)
        origin = f"given: {describe(positional, keyword)}"
    keyword, cache_note = without_cache(model, positional, keyword)
    captured, batch_note = _capture_batch(model, positional, keyword, mode)
    progress("analyze", 0, 1)
    report = infer(captured)
    about = {"method": captured.method, "mode": captured.mode, "inputs": origin}
    return replace(report, capture={**report.capture, **about, "notes": [*captured.notes, *cache_note, *batch_note]})


def _capture_batch(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], mode: str
) -> tuple[Capture, tuple[str, ...]]:
    """Capture with at least two examples where that is possible, so that no claim holds for one example only."""
    doubled = with_batch_of_two(args, kwargs)
    if doubled is not None:
        try:
            return capture(model, *doubled, mode=mode), ("the batch of one example was doubled",)
        except CaptureError:
            pass  # the first axis is no batch axis, or the model takes one example only
    captured = capture(model, args, kwargs, mode=mode)
    return captured, () if doubled is None else ("the claims hold for a batch of one example",)


def auto_param_groups(
    model: nn.Module,
    args: object = None,
    kwargs: dict[str, Any] | None = None,
    *,
    weight_decay: float | None = None,
    decay_invariant: bool = True,
    layer_decay: float | None = None,
    lr: float | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Analyze a model and return parameter groups for an optimizer.

    Args:
        model: the module to train, see ``analyze``.
        args: positional example inputs, see ``analyze``.
        kwargs: keyword example inputs, see ``analyze``.
        weight_decay: ``None``, or the decay >= 0 of matrices, kernels and lookup tables; all else gets 0.
        decay_invariant: whether scale-invariant weights are decayed too.
        layer_decay: ``None``, or the factor in (0, 1] by which the learning rate shrinks from each layer to the one
            before it. Give ``lr`` with it, unless the training loop reads ``lr_scale``.
        lr: ``None``, or the learning rate >= 0 of the last layer.
        overrides: pattern of FQNs → settings of those parameters, e.g. ``{"head.*": {"lr": 1e-2}}``.

    Returns:
        A list of dicts that any ``torch.optim.Optimizer`` accepts, with the keys ``params``,
        ``param_names``, ``channel_dims`` and ``channel_groups``, and those the policies set;
        ``autogroup.groups.param_groups`` describes them in full.

    Raises:
        InputError: inputs are of the wrong kind, or none could be guessed.
        CaptureError: the forward cannot be traced.
        GroupError: the model has nothing to train, a number is out of bounds, or an override is wrong.

    Example:
        >>> import torch
        >>> groups = auto_param_groups(nn.Linear(4, 2), torch.zeros(3, 4), weight_decay=0.1)
        >>> optimizer = torch.optim.AdamW(groups, lr=1e-3)
        >>> [(group["param_names"], group["weight_decay"]) for group in optimizer.param_groups]
        [(['weight'], 0.1), (['bias'], 0.0)]
    """
    return analyze(model, args, kwargs).param_groups(
        model,
        weight_decay=weight_decay,
        decay_invariant=decay_invariant,
        layer_decay=layer_decay,
        lr=lr,
        overrides=overrides,
    )
