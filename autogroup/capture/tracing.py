"""The ways from a forward pass to an ATen graph, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from autogroup.capture.subject import Faker, Subject


@dataclass(frozen=True)
class Traced:
    """A graph module whose placeholders are the parameters, the buffers and the inputs, in this order."""

    module: fx.GraphModule
    method: str
    notes: tuple[str, ...] = ()


def trace_fake(subject: Subject) -> Traced:
    """Trace on fake tensors: no memory, no arithmetic, no values."""
    traced = _trace_on_fakes(subject, FakeTensorMode(allow_non_fake_inputs=True))
    return Traced(traced, "make_fx")


def trace_all_layers(subject: Subject) -> Traced:
    """Trace on fake tensors, with random numbers that decide about layers out of the way."""
    # Not part of the first way: watching every torch function costs a sixth of the time.
    with _AllLayersRun() as random_numbers:
        traced = _trace_on_fakes(subject, FakeTensorMode(allow_non_fake_inputs=True))
    return Traced(traced, "make_fx", random_numbers.notes)


def trace_concrete(subject: Subject) -> Traced:
    """Trace a run on copies of the real tensors; what the forward decides from values is decided for these."""
    trace = make_fx(_located(subject), tracing_mode="real", pre_dispatch=True, _error_on_data_dependent_ops=False)
    with _AllLayersRun() as random_numbers:
        module = trace(*subject.clones())
    _use_one_fake_mode(module.graph)
    note = "traced on real tensors: branches were taken as these values demand"
    return Traced(module, "concrete", (note, *random_numbers.notes))


def trace_symbolic(subject: Subject) -> Traced:
    """Trace on fake tensors, with a symbol for every size or number that depends on values."""
    shapes = ShapeEnv(allow_scalar_outputs=True, allow_dynamic_output_shape_ops=True)
    mode = FakeTensorMode(allow_non_fake_inputs=True, static_shapes=True, shape_env=shapes)
    with _AllLayersRun() as random_numbers:
        traced = _trace_on_fakes(subject, mode, _error_on_data_dependent_ops=False)
    _use_one_fake_mode(traced.graph)
    note = f"sizes that depend on values are unknown; each was taken as {ASSUMED_SIZE}"
    return Traced(traced, "symbolic", (note, *random_numbers.notes))


TRACES = {
    "fake tensors": trace_fake,
    "fake tensors, no layer skipped": trace_all_layers,
    "real tensors": trace_concrete,
    "symbolic sizes": trace_symbolic,
}
"""What to call each way in a message -> the way, in the order of trial.

Real tensors come before symbolic sizes since every size is then a number that the rules can use.
"""


def _trace_on_fakes(subject: Subject, mode: FakeTensorMode, **options: Any) -> fx.GraphModule:
    substitutes = Faker(subject, mode).substitutes()
    trace = make_fx(_located(subject), tracing_mode="fake", pre_dispatch=True, _allow_non_fake_inputs=True, **options)
    with mode:
        return trace(*substitutes)


class _AllLayersRun(TorchFunctionMode):
    """Answers a single random number with 1, since models draw one to decide whether to skip a layer."""

    notes: tuple[str, ...] = ()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass every call on, except ``torch.rand`` of one number."""
        if func is torch.rand and args in ((), ([],), ((),)) and not (kwargs and "size" in kwargs):
            self.notes = ("single random numbers, as drawn to skip a layer, were taken as 1",)
            return torch.tensor(1.0)
        return func(*args, **(kwargs or {}))


def _located(subject: Subject) -> Callable[..., list[Tensor]]:
    """Return ``subject.run``, made to tell the tracer where each node comes from."""

    def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: list[Tensor]) -> list[Tensor]:
        proxy_mode = get_proxy_mode()
        assert proxy_mode is not None, "called by make_fx only"
        subject.provenance.watch(proxy_mode.tracer, forward.__code__)
        return subject.run(parameters, buffers, inputs)

    return forward


ASSUMED_SIZE = 8
"""Stands for every size that depends on values: any number will do, as long as it is a number."""


def _use_one_fake_mode(graph: fx.Graph) -> None:
    """Give the values of all nodes one fake mode and sizes that are numbers, so that they can be used together."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def number(size: Any) -> Any:
        if not isinstance(size, torch.SymInt):
            return size
        expression = size.node.expr
        return int(expression.xreplace(dict.fromkeys(expression.free_symbols, ASSUMED_SIZE)))

    def again(value: Tensor) -> Tensor:
        shape, stride = tuple(map(number, value.shape)), tuple(map(number, value.stride()))
        with mode:
            return torch.empty_strided(shape, stride, dtype=value.dtype, device=value.device)

    for node in graph.nodes:
        if node.meta.get("val") is not None:
            with_numbers = pytree.tree_map_only(torch.SymInt, number, node.meta["val"])
            node.meta["val"] = pytree.tree_map_only(Tensor, again, with_numbers)
