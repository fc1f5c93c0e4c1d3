"""Capture: a model and example inputs become one flat ATen graph, on fake tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from autogroup.capture.liveness import remove_dead_code
from autogroup.capture.schema import written_placeholders
from autogroup.capture.untouched import untouched
from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.errors import CaptureError

if TYPE_CHECKING:
    from autogroup.capture.subject import Subject
    from autogroup.capture.tracing import Traced


@dataclass(frozen=True)
class Capture:
    """One flat ATen graph of a model in training mode.

    Args:
        graph: placeholders for parameters, buffers and inputs, then ATen overload calls, then the output.
            Every node that yields tensors has ``meta["val"]`` (fake tensors), ``meta["module"]`` (FQN of the
            innermost module, "" for the root) and ``meta["source"]`` ("file.py:41" of the user's code).
        parameters: first FQN -> placeholder node; tied parameters appear once.
        aliases: first FQN -> the other FQNs of a tied parameter.
        buffers: FQN -> placeholder node.
        trainable: FQNs with requires_grad.
        method: "make_fx" (fake tensors), "concrete" (a run on real tensors) or "symbolic" (fake tensors, with
            symbols for sizes that depend on values).
        mode: "train" or "eval".
        notes: anything the user should know about this capture.
        inputs: placeholder nodes of the example inputs' tensors, in order.
        zeros: FQNs of buffers that the model's code sets to zero for good: they are not saved and never written to.
        constants: target of a ``get_attr`` node -> the tensor that the model's code had at hand there.
    """

    graph: fx.Graph
    parameters: Mapping[str, fx.Node]
    aliases: Mapping[str, tuple[str, ...]]
    buffers: Mapping[str, fx.Node]
    trainable: frozenset[str]
    method: str
    mode: str
    notes: tuple[str, ...] = ()
    inputs: tuple[fx.Node, ...] = ()
    zeros: frozenset[str] = frozenset()
    constants: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, mode: str = "train") -> Capture:
    """Trace one forward pass of ``model`` to ATen operators.

    Args:
        model: any module, also on ``torch.device("meta")``, compiled, or wrapped in DDP or FSDP2. It comes
            back exactly as it was.
        args: positional inputs; tensors may be real, fake or meta, as long as only shapes matter.
        kwargs: keyword inputs.
        mode: "train", or "eval" for the model's behaviour in evaluation.

    Returns:
        The graph, with the names it takes to read it.

    Raises:
        CaptureError: the forward cannot be traced; says where in the model and what to do.

    Example:
        >>> import torch
        >>> captured = capture(nn.Linear(4, 2), (torch.zeros(3, 4),), {})
        >>> [str(node.target) for node in captured.graph.nodes if node.op == "call_function"]
        ['aten.linear.default']
    """
    # Imported here: a graph that comes from a file needs none of the tracers, which take a second to import.
    from autogroup.capture.subject import Subject
    from autogroup.capture.tracing import TRACES

    if mode not in ("train", "eval"):
        raise CaptureError(f"mode is {mode!r}; it must be 'train' or 'eval'")
    subject = Subject.of(unwrap(model), args, kwargs)
    failures: dict[str, Exception] = {}
    with untouched(subject.model, training=mode == "train"):
        for name, trace in TRACES.items():
            try:
                return _assemble(subject, trace(subject), mode)
            except Exception as error:  # whatever the model's own code raises
                failures[name] = error
    raise _explain(subject, failures)


def _assemble(subject: Subject, traced: Traced, mode: str) -> Capture:
    """Clean the graph and give its placeholders their names."""
    graph = traced.module.graph
    changed = written_placeholders(graph)  # also by writes that only the next step would see
    remove_dead_code(graph)
    nodes = [node for node in graph.nodes if node.op == "placeholder"]
    split = len(subject.parameters)
    end = split + len(subject.buffers)
    parameters = zip(map(clean_fqn, subject.parameters), nodes[:split], strict=True)
    buffers = dict(zip(map(clean_fqn, subject.buffers), nodes[split:end], strict=True))
    zeros = [name for name in _unsaved_zeros(subject) if name in buffers and buffers[name] not in changed]
    return Capture(
        graph=graph,
        parameters=dict(parameters),
        aliases={clean_fqn(name): tuple(map(clean_fqn, others)) for name, others in subject.aliases.items()},
        buffers=buffers,
        trainable=frozenset(clean_fqn(name) for name, p in subject.parameters.items() if p.requires_grad),
        method=traced.method,
        mode=mode,
        notes=(*_mode_notes(subject.model, mode), *traced.notes, *_zero_notes(zeros)),
        inputs=tuple(nodes[end:]),
        zeros=frozenset(zeros),
        constants={n.target: getattr(traced.module, n.target) for n in graph.nodes if n.op == "get_attr"},
    )


def _unsaved_zeros(subject: Subject) -> list[str]:
    """Buffers that are zero and not saved, as the key bias of an attention that has none may be written."""
    values = {clean_fqn(name): buffer for name, buffer in subject.buffers.items()}
    unsaved = (
        clean_fqn(f"{prefix}.{name}" if prefix else name)
        for prefix, module in subject.model.named_modules()
        for name in module._non_persistent_buffers_set  # pyright: ignore[reportPrivateUsage]
    )
    return sorted(name for name in unsaved if name in values and _is_zero(values[name]))


def _is_zero(buffer: Tensor) -> bool:
    # Sharded, fake and meta tensors have no values to look at.
    return type(buffer) is Tensor and not buffer.is_meta and not bool(buffer.any())


def _zero_notes(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return (f"taken as the zeros that the model's code puts there: {', '.join(names[:2])}{more}",)


def _mode_notes(model: nn.Module, mode: str) -> tuple[str, ...]:
    """Name the submodules that do not follow the mode of the whole."""
    others = [clean_fqn(name) for name, module in model.named_modules() if module.training != (mode == "train")]
    if not others:
        return ()
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return (f"not in {mode} mode, and left so: {', '.join(others[:3])}{more}",)


def _explain(subject: Subject, failures: Mapping[str, Exception]) -> CaptureError:
    """One error for all attempts: the first cause, where it happened, what to do."""
    first = next(iter(failures.values()))
    if isinstance(first, CaptureError):
        return first
    module, source = subject.provenance.of_error(first)
    name = type(subject.model).__name__
    place = f"module {module!r}" if module else f"the forward of {name}"
    tried = "; ".join(f"{method}: {_summary(error)}" for method, error in list(failures.items())[1:])
    error = CaptureError(
        f"{name} could not be traced: {_summary(first)}\n"
        f"  where: {place}{f' at {source}' if source else ''}\n"
        f"  also tried: {tried}\n"
        "  what to do: check that model(*args, **kwargs) runs with these inputs; if it does, the step above needs "
        "values, so pass a model with real parameters and real inputs, or analyze the part of it that holds the layers"
    )
    error.__cause__ = first
    return error


def _summary(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'…' if len(text) > 300 else ''}"
