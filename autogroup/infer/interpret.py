"""The loop: run the rules over a graph, node by node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

import autogroup.rules  # noqa: F401  # pyright: ignore[reportUnusedImport]  # fills the table
from autogroup.algebra.context import Context
from autogroup.algebra.domain import Value
from autogroup.errors import RuleError
from autogroup.infer.lowering import decomposition
from autogroup.infer.memory import Memory
from autogroup.registry import lookup
from autogroup.rules.assembly import overwrite

OUTPUT = "reaches the output with its scale"

_NUMBERS = count(1)
"""One number per interpreted operator, also inside decompositions: equal names would make two values equal."""


class Interpreter:
    """Abstract evaluation of one graph.

    Args:
        graph: flat graph of ATen overloads; every node that yields tensors has ``meta["val"]``.
        seeds: values of placeholders; all other placeholders scale with nothing.
        assumed_sizes: some sizes are not the true ones, so a rule may fail without being wrong; its operator
            is then treated as one without a rule.
        context: the arithmetic of abstract values that the rules are run with.
    """

    def __init__(
        self,
        graph: fx.Graph,
        seeds: Mapping[fx.Node, Value],
        *,
        assumed_sizes: bool = False,
        context: type[Context] = Context,
    ) -> None:
        self.graph = graph
        self.seeds = seeds
        self.assumed_sizes = assumed_sizes
        self.context = context
        self.unknown_ops: Counter[str] = Counter()
        self.memory = Memory(self._replay, self._store)

    def run(self, *, blame: fx.Node | None = None) -> list[Value]:
        """Interpret every node; return the values of the output's tensors.

        Args:
            blame: the node that merges and escapes are attributed to, instead of the graph's own nodes.
        """
        outputs: list[Value] = []
        for node in self.graph.nodes:
            if node.op == "output":
                flat, _ = pytree.tree_flatten(node.args)
                outputs = [self.memory.read(a, node) for a in flat if isinstance(a, fx.Node) and _has_tensor(a)]
                break
            value = self.seeds.get(node)
            if value is None:
                value = self._evaluate(node, blame or node) if node.op == "call_function" else self._plain(node)
            self.memory.define(node, value)
        return outputs

    def escape_outputs(self, outputs: list[Value]) -> None:
        """What still scales at the output changes the loss."""
        node = next(n for n in self.graph.nodes if n.op == "output")
        self._context(node, node).escape_all(outputs, OUTPUT)

    # --- one node ----------------------------------------------------------------------------------------

    def _evaluate(self, node: fx.Node, blame: fx.Node) -> Any:
        """The value of one operator."""
        read = {source: self._read(source, node) for source in node.all_input_nodes}
        values = list(_values(read.values()))
        if all(v.plain for v in values) and not _always(node):
            return self._plain(node)
        args, kwargs = map_arg((node.args, dict(node.kwargs)), read.__getitem__)
        moved = {k.blocks: len(k.blocks.removals) for v in values for k in v.deps if k.use == "shift"}
        value = self._apply(node, blame, args, kwargs, values)
        kept = {k.blocks for v in _values([value]) for k in v.deps if k.use == "shift"}
        for blocks, removals in moved.items():
            # A parameter is called dead only if every rule accounts for it: still there, or removed with a reason.
            if blocks not in kept and len(blocks.removals) == removals:
                blocks.translates = False
        if node.meta.get("grad", True) is False and any(v.deps for v in _values([value])):
            value = pytree.tree_map_only(Value, self._context(node, blame).detach, value)
        return value

    def _read(self, source: fx.Node, reader: fx.Node) -> Any:
        value = self.memory.read(source, reader)
        if isinstance(value, Value) and not isinstance(source.meta.get("val"), Tensor):
            return value if value.deps else source.meta.get("val")
        return value

    def _apply(self, node: fx.Node, blame: fx.Node, args: Any, kwargs: Any, values: list[Value]) -> Any:
        """Evaluate one operator on the values of its arguments."""
        op = node.target
        if not isinstance(op, OpOverload):
            return self._call_python(node, blame, args, values)
        entry, ctx = lookup(op), self._context(node, blame)
        if entry is not None:
            kwargs = {name: v for name, v in kwargs.items() if name != "out"}
            try:
                return entry.rule(ctx, *args, **kwargs)
            except Exception as error:
                if not self.assumed_sizes:
                    raise _rule_error(blame, values, error) from error
                return self._give_up(node, ctx, values, f"sizes depend on values around {op}")
        if not any(v.deps for v in values):
            return self._plain(node)
        inner = decomposition(node)
        if inner is not None:
            return self._run_inner(inner, node, blame, args, kwargs)
        return self._give_up(node, ctx, values, f"autogroup has no rule for {op}")

    def _give_up(self, node: fx.Node, ctx: Context, values: list[Value], reason: str) -> Any:
        """Nothing can be said of what this operator does to the scale of its arguments."""
        name = str(node.target) if isinstance(node.target, OpOverload) else getattr(node.target, "__name__", "")
        self.unknown_ops[name] += 1
        ctx.escape_all(values, reason, unknown=True)
        return self._plain(node)

    def _call_python(self, node: fx.Node, blame: fx.Node, args: Any, values: list[Value]) -> Any:
        """``getitem`` on a tuple; any other Python function is unknown."""
        if getattr(node.target, "__name__", "") == "getitem" and not isinstance(args[0], Value):
            return args[0][args[1]]
        if any(v.deps for v in values):
            name = getattr(node.target, "__name__", str(node.target))
            return self._give_up(node, self._context(node, blame), values, f"autogroup has no rule for {name}")
        return self._plain(node)

    def _run_inner(self, inner: fx.Graph, node: fx.Node, blame: fx.Node, args: Any, kwargs: Any) -> Any:
        """Interpret the operators that an operator without a rule is made of."""
        tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Value)]
        places = [n for n in inner.nodes if n.op == "placeholder"]
        nested = Interpreter(
            inner,
            dict(zip(places, tensors, strict=True)),
            assumed_sizes=self.assumed_sizes,
            context=self.context,
        )
        outputs = nested.run(blame=blame)
        self.unknown_ops.update(nested.unknown_ops)
        return outputs[0] if isinstance(node.meta.get("val"), Tensor) else tuple(outputs)

    # --- helpers -----------------------------------------------------------------------------------------

    def _context(self, node: fx.Node, blame: fx.Node) -> Context:
        return self.context(node, blame, node.meta.get("val"), next(_NUMBERS))

    def _plain(self, node: fx.Node) -> Any:
        """A value, or a tuple of values, that scales with nothing."""
        return self._context(node, node).plain_outputs()

    def _replay(self, view: fx.Node, value: Value) -> Value:
        """Evaluate a view of a tensor that was overwritten since."""
        args = map_arg(view.args, lambda n: n.meta.get("val"))
        return self._apply(view, view, (value, *args[1:]), dict(view.kwargs), list(_values([value])))

    def _store(self, base: Value, value: Value, chain: tuple[fx.Node, ...]) -> Value:
        """Write through a chain of views."""

        def view(tensor: Tensor) -> Tensor:
            for node in chain:
                args: Any = map_arg(node.args, lambda n: n.meta.get("val"))
                target: Callable[..., Tensor] = node.target  # pyright: ignore[reportAssignmentType]
                tensor = target(tensor, *args[1:], **node.kwargs)
            return tensor

        return overwrite(self._context(chain[-1], chain[-1]), base, value, view)


def _has_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def _values(items: Iterable[Any]) -> Iterator[Value]:
    """The values among some values and tuples of values."""
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, (tuple, list)):
            yield from _values(item)  # pyright: ignore[reportUnknownArgumentType]


def _always(node: fx.Node) -> bool:
    """Whether the operator has something to say even if no argument scales."""
    entry = lookup(node.target) if isinstance(node.target, OpOverload) else None
    return entry is not None and entry.always


def _rule_error(node: fx.Node, values: list[Value], error: Exception) -> RuleError:
    shapes = ", ".join(str(list(v.shape)) for v in values)
    return RuleError(
        f"the rule for {node.target} failed on shapes {shapes}\n"
        f"  where: module {node.meta.get('module', '')!r} at {node.meta.get('source', '')}\n"
        f"  cause: {type(error).__name__}: {error}\n"
        "  this is a fault of autogroup, not of the model: please report it with the line above"
    )
