"""Optimizers and wrappers by name, and what one should know before using them.

What there is to know is read from the classes themselves, so a new optimizer needs no entry here.
"""

import difflib
import fnmatch
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.optim import Optimizer

import optimizers
from optimizers import wrappers
from optimizers._base import BlockOptimizer
from optimizers._slots import Slot
from optimizers.wrappers._base import Wrapper


class UnknownNameError(ValueError, NotImplementedError):
    """No optimizer or wrapper has this name. Both bases, because other registries raise one or the other."""


@dataclass(frozen=True)
class OptimizerInfo:
    """What one should know about an optimizer before using it.

    Attributes:
        name: the name in the registry: the class name in lower case.
        cls: the class.
        summary: first line of its documentation; it tells apart names that exist twice in the literature.
        paper: arXiv id of its source, or ``None``.
        required: options without a default.
        slots: state per parameter with default options, besides the step count.
        optional_slots: state that other options add.
        bytes_per_element: state with default options for one element of a float32 parameter. Slots that are smaller or
            larger than the parameter (one number per block, matrices) are not counted.
        uses_channel_dims: whether ``channel_dims`` and ``channel_groups`` mean something to it.
        needs_closure: whether ``step`` must be given a closure.
        needs_create_graph: whether it differentiates the gradient: ``loss.backward(create_graph=True)``.
    """

    name: str
    cls: type[Optimizer]
    summary: str
    paper: str | None
    required: tuple[str, ...]
    slots: tuple[str, ...]
    optional_slots: tuple[str, ...]
    bytes_per_element: int
    uses_channel_dims: bool
    needs_closure: bool
    needs_create_graph: bool


def load_optimizer(name: str) -> type[Optimizer]:
    """Return the class of an optimizer by its name.

    Args:
        name: upper and lower case, ``-`` and ``_`` do not matter.

    Returns:
        The class. ``"adams"`` is Roburin et al.'s, ``"adamswd"`` the one with stable weight decay.

    Raises:
        UnknownNameError: a ``ValueError`` that lists close names.

    Example:
        >>> load_optimizer("adam-srt").__name__
        'AdamSRT'
    """
    return _find(name, _classes(optimizers.__all__, optimizers, BlockOptimizer), "optimizer")


def load_wrapper(name: str) -> type[Optimizer]:
    """Return the class of a wrapper by its name, as `load_optimizer` does.

    Raises:
        UnknownNameError: a ``ValueError`` that lists close names.

    Example:
        >>> load_wrapper("lookahead").__name__
        'Lookahead'
    """
    return _find(name, _classes(wrappers.__all__, wrappers, Wrapper), "wrapper")


def list_optimizers(pattern: str = "*") -> list[str]:
    """Return the names of the optimizers that match a shell pattern, sorted.

    Args:
        pattern: such as ``"adam*"``; upper and lower case do not matter.

    Example:
        >>> list_optimizers("adams*")[0]
        'adams'
    """
    return fnmatch.filter(sorted(_classes(optimizers.__all__, optimizers, BlockOptimizer)), pattern.lower())


def list_wrappers(pattern: str = "*") -> list[str]:
    """Return the names of the wrappers that match a shell pattern, sorted.

    Example:
        >>> list_wrappers("*sam")
        ['asam', 'sam']
    """
    return fnmatch.filter(sorted(_classes(wrappers.__all__, wrappers, Wrapper)), pattern.lower())


def get_supported_optimizers(pattern: str = "*") -> dict[str, OptimizerInfo]:
    """Return what there is to know about the optimizers that match a shell pattern, by name, sorted.

    Args:
        pattern: as for `list_optimizers`.

    Example:
        >>> info = get_supported_optimizers("adamsrt")["adamsrt"]
        >>> info.paper, info.slots, info.bytes_per_element, info.uses_channel_dims
        ('2006.13382', ('exp_avg', 'exp_avg_sq'), 4, True)
    """
    return {name: _describe(name, load_optimizer(name)) for name in list_optimizers(pattern)}


def _classes(names: Iterable[str], module: object, base: type[Optimizer]) -> dict[str, type[Optimizer]]:
    found: dict[str, type[Optimizer]] = {}
    for value in (getattr(module, name) for name in names):
        if not (inspect.isclass(value) and issubclass(value, base)):
            continue
        name = value.__name__.lower()
        if _plain(name) in map(_plain, found):
            raise RuntimeError(f"two classes are called {name!r} if case and underscores do not matter")
        found[name] = value
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _find(name: str, known: Mapping[str, type[Optimizer]], kind: str) -> type[Optimizer]:
    by_plain = {_plain(key): key for key in known}
    if _plain(name) in by_plain:
        return known[by_plain[_plain(name)]]
    close = difflib.get_close_matches(_plain(name), by_plain, n=3)
    hint = (
        f"did you mean {', '.join(by_plain[x] for x in close)}?" if close else f"there are {', '.join(sorted(known))}"
    )
    raise UnknownNameError(f"no {kind} is called {name!r}: {hint}")


def _describe(name: str, cls: type[Optimizer]) -> OptimizerInfo:
    text = inspect.getdoc(cls) or ""
    options = inspect.signature(cls).parameters
    defaults: dict[str, Any] = {
        key: None if option.default is option.empty else option.default for key, option in options.items()
    }
    slots = cast("Mapping[str, Slot]", getattr(cls, "slots", {}))
    present = {key: slot for key, slot in slots.items() if slot.wanted(defaults)}
    full = [slot.dtype or torch.float32 for slot in present.values() if slot.shape == "full"]
    paper = re.search(r"arXiv:?\s+(\d{4}\.\d{4,5})", text[text.find("Source:") :])
    return OptimizerInfo(
        name=name,
        cls=cls,
        summary=text.split("\n")[0],
        paper=paper[1] if paper else None,
        required=tuple(key for key, option in options.items() if option.default is option.empty and key != "params"),
        slots=tuple(present),
        optional_slots=tuple(key for key in slots if key not in present),
        bytes_per_element=sum(dtype.itemsize for dtype in full),
        uses_channel_dims="channel_dims" in options,
        needs_closure=bool(getattr(cls, "needs_closure", False)),
        needs_create_graph="create_graph=True" in text,
    )
