"""What is being traced: a bare model, its example inputs, and substitutes for all of its tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy

from autogroup.capture.provenance import Provenance
from autogroup.capture.trees import find_tensors, list_tensors, map_tensors
from autogroup.errors import CaptureError

Substitutes: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor]]
"""Parameters by raw name, buffers by raw name, input tensors in order."""


@dataclass(frozen=True)
class Subject:
    """A bare model and its inputs.

    Names are raw here: those by which ``torch.func.functional_call`` finds a tensor. ``aliases`` maps the
    first name of a tied parameter to its other names.
    """

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    aliases: dict[str, tuple[str, ...]]
    provenance: Provenance

    @classmethod
    def of(cls, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Subject:
        """Collect the names; raises ``CaptureError`` for parameters that do not have a shape yet."""
        parameters, aliases = _first_names(model.named_parameters(remove_duplicate=False))
        buffers, _ = _first_names(model.named_buffers(remove_duplicate=False))
        lazy = next((name for name, p in parameters.items() if is_lazy(p)), None)
        if lazy is not None:
            raise CaptureError(
                f"parameter {lazy!r} of {type(model).__name__} has no shape yet (lazy module): "
                "run one forward pass, model(*args), before the analysis"
            )
        return cls(model, args, kwargs, parameters, buffers, aliases, Provenance(model))

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors among the arguments."""
        return list_tensors((self.args, self.kwargs))

    def run(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: list[Tensor]) -> list[Tensor]:
        """Run the forward on substitutes; return every tensor of its result."""
        rest = iter(inputs)
        args, kwargs = map_tensors(lambda _: next(rest), (self.args, self.kwargs))
        outputs = find_tensors(torch.func.functional_call(self.model, {**parameters, **buffers}, args, kwargs))
        if not outputs:
            raise CaptureError(f"the forward of {type(self.model).__name__} returned no tensor")
        return outputs

    def clones(self) -> Substitutes:
        """Return copies of the real tensors; raises ``CaptureError`` if one is on the meta device."""
        owned = {**self.parameters, **self.buffers}
        meta = next((name for name, t in owned.items() if t.device.type == "meta"), None)
        if meta is not None:
            raise CaptureError(f"{meta!r} is on the meta device and has no values")

        def clone(tensor: Tensor) -> Tensor:
            return _same_kind(tensor.detach().clone(), tensor)

        parameters = {name: clone(p) for name, p in self.parameters.items()}
        return parameters, {name: clone(b) for name, b in self.buffers.items()}, [clone(x) for x in self.inputs]


class Faker:
    """Makes fake twins of a subject's tensors, all of one fake mode and on devices that fit together.

    A meta tensor becomes a fake tensor on the device of the others (the CPU if all are meta), and inputs
    follow the parameters, so that CPU inputs do for a model on any single device.

    Args:
        subject: whose tensors to twin.
        mode: the fake mode of the twins.
    """

    def __init__(self, subject: Subject, mode: FakeTensorMode) -> None:
        """Choose the device."""
        self.mode = mode
        self._subject = subject
        owned = (*subject.parameters.values(), *subject.buffers.values())
        devices = {t.device for t in owned if t.device.type != "meta"}
        self._one_device = len(devices) <= 1
        self._home = next(iter(devices)) if len(devices) == 1 else torch.device("cpu")

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return a fake tensor of the same size, stride, dtype and kind."""
        device = self._home if self._one_device or tensor.device.type == "meta" else tensor.device
        if tensor.layout is not torch.strided:
            return self.mode.from_tensor(tensor)
        with self.mode:
            # The global size of a DTensor: its shards are no business of the analysis.
            twin = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)
            return _same_kind(twin, tensor)

    def substitutes(self) -> Substitutes:
        """Return a fake twin of every tensor."""
        parameters = {name: self(p) for name, p in self._subject.parameters.items()}
        buffers = {name: self(b) for name, b in self._subject.buffers.items()}
        return parameters, buffers, [self(x) for x in self._subject.inputs]


def _same_kind(twin: Tensor, original: Tensor) -> Tensor:
    if isinstance(original, nn.Parameter):
        return nn.Parameter(twin, requires_grad=original.requires_grad)
    return twin.requires_grad_(original.requires_grad)


def _first_names(named: Iterable[tuple[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Split named tensors into first name -> tensor and first name -> its other names."""
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    for name, tensor in named:
        original = first.setdefault(id(tensor), name)
        if original == name:
            tensors[name] = tensor
        else:
            aliases[original] = (*aliases.get(original, ()), name)
    return tensors, aliases
