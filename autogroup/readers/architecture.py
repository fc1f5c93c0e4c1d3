"""The architecture for a file of tensors (``--arch``), and whether the two fit: names and shapes, never values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import nn

from autogroup.capture.unwrap import clean_fqn
from autogroup.errors import LoadError
from autogroup.readers.named import parameters_on_meta, read_timm, read_torchvision, read_transformers
from autogroup.readers.python_source import ModelAndInputs, read_python
from autogroup.tensors import TensorTable

_SHOWN = 4


def read_model(source: str) -> ModelAndInputs | None:
    """Build a model from a name: ``torchvision:NAME``, ``timm:NAME``, ``hf:CONFIG`` or one in Python code.

    Returns:
        The model with the inputs that came with it, if any; ``None`` if the source is no such name.

    Raises:
        LoadError: there is no such model, or it cannot be built.
    """
    library, _, name = source.partition(":")
    if library == "torchvision" and name:
        return read_torchvision(name), None, None
    if library == "timm" and name:
        return read_timm(name), None, None
    if library == "hf" and name:
        return read_transformers(Path(name)), None, None
    where, colon, name = source.rpartition(":")
    if colon and where and name and "/" not in name:
        return read_python(source)
    return None


def read_architecture(arch: str) -> ModelAndInputs:
    """Build the model that ``--arch`` names, without memory for its parameters where that works.

    Raises:
        LoadError: it names no model, or one that cannot be built.
    """
    try:
        with parameters_on_meta():
            found = read_model(arch)
    except LoadError:  # a constructor may compute with its parameters
        found = read_model(arch)
    if found is None:
        raise LoadError(
            f"--arch {arch}: names no architecture; it is torchvision:NAME, timm:NAME, hf:CONFIG, "
            "package.module:callable or file.py:callable"
        )
    return found


def fit(model: nn.Module, tables: Sequence[TensorTable], where: str, arch: str) -> tuple[str, ...]:
    """Hold the names and shapes of a file against an architecture.

    Args:
        model: the architecture.
        tables: the sets of tensors in the file; the one that fits best is taken.
        where: the file, for messages.
        arch: what ``--arch`` says, for messages.

    Returns:
        Notes on what differs without harm: buffers, further tensors, a prefix of all names.

    Raises:
        LoadError: a parameter is missing in the file or has another shape there; lists all that differs.
    """
    compared = [_compare(model, table) for table in tables]
    found = min(compared, key=lambda found: len(found.missing))  # the first, which is the largest, if they are equal
    if found.missing or found.reshaped:
        parts = [
            _listing("missing in the file", found.missing),
            _listing("of another shape", found.reshaped),
            _listing("only in the file", found.unexpected),
            *found.notes,
        ]
        raise LoadError(
            f"{where}: does not fit --arch {arch}: {'; '.join(p for p in parts if p)}; name the architecture that "
            "the file was saved from, e.g. as file.py:callable"
        )
    table = tables[compared.index(found)]
    extra = _listing("in the file, not in the architecture", found.unexpected)
    absent = _listing("buffers that are not in the file", found.absent_buffers)
    notes = (f"names and shapes fit {where} ({table.kind}, {len(table.tensors)} tensors)", *table.notes)
    return (*notes, *found.notes, *(text for text in (extra, absent) if text))


class _Comparison:
    """What differs between an architecture and a set of tensors.

    Args:
        parameters: names of each parameter (several for a tied one) -> shape.
        buffers: names of the saved buffers -> shape.
        stored: names in the file -> shape.
        prefix: what all names of the model have in front in the file, or (added) only in the model.
    """

    def __init__(
        self,
        parameters: Mapping[tuple[str, ...], tuple[int, ...]],
        buffers: Mapping[str, tuple[int, ...]],
        stored: Mapping[str, tuple[int, ...]],
        prefix: str,
        added: bool,
    ) -> None:
        renamed = {_renamed(name, prefix, added): shape for name, shape in stored.items()}
        known = {name for names in parameters for name in names} | set(buffers)
        self.missing = [names[0] for names in parameters if not any(name in renamed for name in names)]
        shapes = [*((n, s) for names, s in parameters.items() for n in names), *buffers.items()]
        self.reshaped = [
            f"{n} ({_text(renamed[n])} in the file, {_text(s)} in the architecture)"
            for n, s in shapes
            if n in renamed and renamed[n] != s
        ]
        self.unexpected = [name for name in stored if _renamed(name, prefix, added) not in known]
        self.absent_buffers = [name for name in buffers if name not in renamed]
        side = "the architecture" if added else "the file"
        self.notes = [f"all names of {side} begin with {prefix}, which was ignored"] if prefix else []


def _compare(model: nn.Module, table: TensorTable) -> _Comparison:
    """Compare under the prefix, if any, under which most names agree."""
    names: dict[int, list[str]] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(clean_fqn(name))
        shapes[id(parameter)] = tuple(parameter.shape)
    parameters = {tuple(same): shapes[key] for key, same in names.items()}
    all_buffers = {clean_fqn(name): tuple(buffer.shape) for name, buffer in model.named_buffers()}
    saved = {clean_fqn(name) for name in model.state_dict()}
    buffers = {name: shape for name, shape in all_buffers.items() if name in saved}
    stored = {clean_fqn(tensor.name): tensor.shape for tensor in table.tensors}
    flat = [name for same in parameters for name in same]
    choices = [("", False)]
    choices += [(prefix, False) for prefix in _prefixes(stored, flat)]
    choices += [(prefix, True) for prefix in _prefixes(flat, stored)]
    found = [_Comparison(parameters, buffers, stored, prefix, added) for prefix, added in choices]
    return min(found, key=lambda c: (len(c.missing), len(c.reshaped)))


def _prefixes(longer: Iterable[str], shorter: Iterable[str]) -> list[str]:
    """Prefixes, such as ``module.``, under which the names of one side may be found on the other one."""
    ends = set(list(shorter)[:3])
    found = {name.removesuffix(end) for name in longer for end in ends if name.endswith(f".{end}")}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))[:16]


def _renamed(name: str, prefix: str, added: bool) -> str:
    return prefix + name if added else name.removeprefix(prefix)


def _listing(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}" if names else ""


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
