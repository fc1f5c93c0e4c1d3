"""Example inputs: check those that were given, or guess some from the model's description of itself.

This is the one file of the analysis that may look at module classes and attribute names: a wrong guess
fails to run, it never leads to a wrong claim.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from autogroup.capture.guesses import Candidate, candidates
from autogroup.capture.subject import Faker, Subject
from autogroup.capture.trees import list_tensors, map_tensors
from autogroup.capture.untouched import untouched
from autogroup.capture.unwrap import unwrap
from autogroup.errors import CaptureError, InputError

_HOW = "pass inputs yourself, e.g. args=(torch.randn(2, 3, 224, 224),) or kwargs={'input_ids': ids}"
_NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)


def as_call(args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return ``(args, kwargs)`` as a tuple and a dict.

    Args:
        args: a tuple, a single tensor, or ``None``.
        kwargs: a mapping from argument names to values, or ``None``.

    Raises:
        InputError: anything else, with what to write instead.

    Example:
        >>> as_call(None, {"x": 1})
        ((), {'x': 1})
    """
    if isinstance(args, Tensor):
        args = (args,)
    if args is None:
        args = ()
    if not isinstance(args, tuple):
        hint = "pass it as kwargs" if isinstance(args, Mapping) else "for one argument write args=(value,)"
        raise InputError(f"args is of type {type(args).__name__}; it must be a tuple or a single tensor: {hint}")
    if kwargs is None:
        kwargs = {}
    if not isinstance(kwargs, Mapping):
        raise InputError(f"kwargs is of type {type(kwargs).__name__}; it must be a dict from argument name to value")
    keyword: dict[Any, Any] = dict(kwargs)
    wrong = next((key for key in keyword if not isinstance(key, str)), None)
    if wrong is not None:
        raise InputError(f"kwargs has the key {wrong!r}; keys must be names of the forward's arguments")
    return args, keyword


def without_cache(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Ask a model that offers it not to return a key-value cache: no training loss reads that.

    Returns:
        The keyword arguments, with ``use_cache=False`` where it applies, and a note that says so.
    """
    names = list(inspect.signature(unwrap(model).forward).parameters)
    if "use_cache" not in names or "use_cache" in kwargs or names.index("use_cache") < len(args):
        return kwargs, ()
    return {**kwargs, "use_cache": False}, ("called with use_cache=False: a key-value cache is no part of a loss",)


def with_batch_of_two(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Repeat inputs whose first axis has size 1, or return ``None`` if they are not such.

    With one example in the batch, whatever differs between examples looks constant: a squeeze-excite gate of
    [1, C, 1, 1] would pass for a constant that the next batch norm removes.
    """
    tensors = [t for t in list_tensors((args, kwargs)) if t.dim()]
    if not tensors or any(t.shape[0] != 1 for t in tensors):
        return None

    def repeated(tensor: Tensor) -> Tensor:
        return tensor.repeat(2, *[1] * (tensor.dim() - 1)) if tensor.dim() else tensor

    return map_tensors(repeated, (args, kwargs))


def guess_inputs(model: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any], str]:
    """Find example inputs that a model accepts.

    Tried in this order: the model's description of its inputs (transformers' main input and ``dummy_inputs``,
    timm's ``pretrained_cfg``, an ``image_size``), then what its first layer takes, in several sizes. Guesses
    run on fake tensors, so failures are cheap. Values are deterministic and use no global random state.

    Args:
        model: any module.

    Returns:
        ``(args, kwargs, description of what was guessed)``.

    Raises:
        InputError: no guess runs; lists every one with its reason.

    Example:
        >>> args, kwargs, description = guess_inputs(nn.Linear(8, 2))
        >>> tuple(args[0].shape)
        (4, 8)
    """
    found = first_that_runs(model, lambda candidate: _run_fake(model, candidate))
    text = describe(found.args, found.kwargs)
    return found.args, found.kwargs, f"guessed from {found.origin}: {text}"


def first_that_runs(model: nn.Module, try_one: Callable[[Candidate], None]) -> Candidate:
    """Return the first candidate on which ``try_one`` raises nothing.

    Args:
        model: the module to guess for.
        try_one: runs the model on one candidate, raises if it does not accept it.

    Raises:
        InputError: none runs.
    """
    bare = unwrap(model)
    tried: list[str] = []
    for candidate in candidates(bare):
        try:
            try_one(candidate)
        except CaptureError:
            raise
        except Exception as error:  # whatever the model raises on inputs it does not accept
            reason = " ".join(str(error).split())
            shown = describe(candidate.args, candidate.kwargs)
            tried.append(f"  {shown} ({candidate.origin}): {type(error).__name__}: {reason[:160]}")
        else:
            return candidate
    name = type(bare).__name__
    if not tried:
        raise InputError(f"no example inputs given, and nothing in {name} tells what it takes: {_HOW}")
    listing = "\n".join(tried)
    raise InputError(f"no example inputs given, and no guess runs through {name}: {_HOW}. Tried:\n{listing}")


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return shapes and dtypes of the tensors in a call, e.g. ``(2, 3, 224, 224) float32``."""

    def one(value: Any) -> Iterator[str]:
        for tensor in list_tensors(value):
            yield f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"

    parts = [*one(args), *(f"{key}={' '.join(one(value)) or repr(value)}" for key, value in kwargs.items())]
    return ", ".join(parts)


def _run_fake(model: nn.Module, candidate: Candidate) -> None:
    """Run the forward on fake tensors; a forward that gets as far as needing values accepts its inputs."""
    subject = Subject.of(unwrap(model), candidate.args, candidate.kwargs)
    with untouched(subject.model, training=True):
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        substitutes = Faker(subject, mode).substitutes()
        try:
            with mode, torch.no_grad():
                subject.run(*substitutes)
        except _NEEDS_VALUES:
            return
