"""Run the code of a TorchScript archive, which is text, statement by statement; nothing of it is given to Python.

The text has the syntax of Python, so ``ast`` parses it. What it can do is what is written here: tensor operators of
``aten``, arithmetic on numbers and lists, branches and loops. There is no name it could reach files or Python by.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from autogroup.errors import CaptureError
from autogroup.readers.script_operators import call_operator, call_primitive, size_of

MAX_STEPS = 2_000_000
"""Statements, and values passed to calls, that one forward may have: a program need not end."""
_STEPS_OF_OPERATOR = 200
"""An operator on tensors takes as long as so many statements, and its node in the graph as much memory."""
MAX_DEPTH = 200
"""Calls within one another."""


@dataclass
class Scope:
    """The variables of one running function."""

    names: dict[str, Any]
    training: bool
    """Whether the module that runs is in training mode."""


@dataclass
class Program:
    """All functions and methods of an archive.

    Args:
        functions: qualified name -> definition.
        constants: what the code calls ``CONSTANTS.c0`` and so on.
        baked: "train" or "eval" if the flags of the norms and dropouts stand in the code as numbers, because the
            model was traced in this mode; ``None`` if the code asks the module.
    """

    functions: Mapping[str, ast.FunctionDef]
    constants: tuple[Any, ...]
    baked: str | None = None
    steps: int = field(default=0, init=False)
    depth: int = field(default=0, init=False)

    def run(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool) -> Any:
        """Call a function or a method (its module is the first argument).

        Raises:
            CaptureError: the code raises an error, uses something that is not read, or does not end.
        """
        definition = self.functions.get(name)
        if definition is None:
            raise CaptureError(f"the TorchScript code calls {name}, which is not in the archive")
        if self.depth == 0 and self.steps <= MAX_STEPS:  # what does not end is not tried again in another way
            self.steps = 0
        self.depth += 1
        try:
            if self.depth > MAX_DEPTH:
                raise CaptureError(f"the TorchScript function {name} calls itself too often")
            scope = Scope(self._bind(name, definition, args, kwargs), training)
            return self._block(definition.body, scope).value
        finally:
            self.depth -= 1

    def _bind(
        self, name: str, definition: ast.FunctionDef, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        formal = [a.arg for a in definition.args.args]
        bound = dict(zip(formal, args, strict=False)) | dict(kwargs)
        empty = Scope({}, False)
        for missing, default in zip(reversed(formal), reversed(definition.args.defaults), strict=False):
            if missing not in bound:
                bound[missing] = self._value(default, empty)
        if len(args) > len(formal) or set(bound) != set(formal):
            raise CaptureError(f"the TorchScript function {name} takes {', '.join(formal)}, not {len(args)} arguments")
        return bound

    # --- statements ---

    def _block(self, statements: list[ast.stmt], scope: Scope) -> _End:
        for statement in statements:
            self._step(1)
            end = self._statement(statement, scope)
            if end.reason:
                return end
        return _ON

    def _step(self, count: int) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise CaptureError(f"the TorchScript code does not end within {MAX_STEPS:,} statements")

    def _sized(self, value: Any) -> Any:
        """Return a value that is going to be walked through, as so many steps."""
        self._step(size_of(value, MAX_STEPS))
        return value

    def _statement(self, statement: ast.stmt, scope: Scope) -> _End:
        match statement:
            case ast.Assign(targets=[target], value=value):
                self._assign(target, self._value(value, scope), scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, self._value(value, scope), scope)
            case ast.Expr(value=value):
                self._value(value, scope)
            case ast.Return(value=value):
                return _End("return", None if value is None else self._value(value, scope))
            case ast.If(test=test, body=body, orelse=orelse):
                return self._block(body if self._truth(test, scope) else orelse, scope)
            case ast.While(test=test, body=body):
                while self._truth(test, scope):
                    end = self._block(body, scope)
                    if end.reason:
                        return end
            case ast.For(target=target, iter=items, body=body):
                for item in _items(self._value(items, scope)):
                    self._assign(target, item, scope)
                    end = self._block(body, scope)
                    if end.reason:
                        return end
            case ast.Pass():
                pass
            case _:
                raise _unread(statement)
        return _ON

    def _assign(self, target: ast.expr, value: Any, scope: Scope) -> None:
        match target:
            case ast.Name(id=name):
                scope.names[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part, item in zip(parts, _items(value), strict=True):
                    self._assign(part, item, scope)
            case ast.Attribute(value=owner, attr=name):
                self._value(owner, scope).set(name, value)
            case _:
                raise _unread(target)

    def _truth(self, test: ast.expr, scope: Scope) -> bool:
        return bool(self._value(test, scope))

    # --- expressions ---

    def _value(self, node: ast.expr, scope: Scope) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._variable(name, scope)
            case ast.Attribute(value=ast.Name(id="CONSTANTS"), attr=name):
                return self.constants[int(name.removeprefix("c"))]
            case ast.Attribute(attr=name):
                path = dotted(node)
                if path.startswith("__torch__."):
                    return path  # a function, to be called by the name it is assigned to
                return self._value(node.value, scope).get(name)
            case ast.Call():
                return self._call(node, scope)
            case ast.Tuple(elts=items):
                return tuple(self._value(item, scope) for item in items)
            case ast.List(elts=items):
                return [self._value(item, scope) for item in items]
            case ast.Dict(keys=keys, values=values):
                pairs = [(k, v) for k, v in zip(keys, values, strict=True) if k]
                return {self._sized(self._value(k, scope)): self._value(v, scope) for k, v in pairs}
            case ast.Subscript(value=value, slice=index):
                return self._value(value, scope)[self._sized(self._value(index, scope))]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, scope)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._value(operand, scope)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._value(body if self._truth(test, scope) else orelse, scope)
            case _:
                raise _unread(node)

    def _variable(self, name: str, scope: Scope) -> Any:
        if name in scope.names:
            return scope.names[name]
        if name in ("inf", "infj"):
            return float("inf")
        if name == "nan":
            return float("nan")
        raise CaptureError(f"the TorchScript code reads {name}, which it has not set")

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        path = dotted(node.func)
        if path in _TYPED:  # annotate(List[int], value): types are of no interest here
            return self._value(node.args[1], scope)
        if path == "uninitialized":
            return None
        if path == "isinstance":
            raise _unread(node)
        args = self._sized(tuple(self._value(a, scope) for a in node.args))
        kwargs = self._sized({k.arg: self._value(k.value, scope) for k in node.keywords if k.arg})
        if path == "getattr":
            return args[0].get(args[1])
        root, _, rest = path.partition(".")
        if root in ("torch", "ops") and any(isinstance(a, Tensor) for a in args):
            self._step(_STEPS_OF_OPERATOR)
        if root == "torch" and root not in scope.names:
            return call_operator(rest, self._in_mode(rest, node, args, scope.training), kwargs)
        if root == "ops":
            namespace, _, name = rest.partition(".")
            return call_operator(name, args, kwargs) if namespace == "aten" else call_primitive(rest, args)
        if isinstance(node.func, ast.Attribute) and not path.startswith("__torch__."):
            return self._value(node.func.value, scope).call(node.func.attr, args, kwargs)
        if isinstance(node.func, ast.Name) and node.func.id not in scope.names:
            return call_primitive(path, args)
        target = path if path.startswith("__torch__.") else self._value(node.func, scope)
        if not isinstance(target, str):
            raise _unread(node)
        return self.run(target, args, kwargs, scope.training)

    def _in_mode(self, name: str, node: ast.Call, args: tuple[Any, ...], training: bool) -> tuple[Any, ...]:
        """Replace the flag of a traced norm or dropout by the mode that the module is in."""
        if self.baked is None or baked_flag(name, node) is not (self.baked == "train"):
            return args
        at = FLAG_POSITIONS[name]
        return (*args[:at], training, *args[at + 1 :])


FLAG_POSITIONS = {"batch_norm": 5, "instance_norm": 5, "dropout": 2, "feature_dropout": 2, "alpha_dropout": 2}
"""Operator -> place of the argument that tells whether it is in training mode."""
_TYPED = ("annotate", "unchecked_cast")


@dataclass(frozen=True)
class _End:
    """Why a block ended: its end was reached (``""``), or the function returned."""

    reason: str
    value: Any = None


_ON = _End("")


def baked_flag(name: str, node: ast.Call) -> bool | None:
    """Return the mode that a call has as a literal; ``None`` without one, or where the mode changes nothing."""
    at = FLAG_POSITIONS.get(name)
    if at is None or at >= len(node.args):
        return None
    running = node.args[3] if name.endswith("norm") else None
    if isinstance(running, ast.Constant) and running.value is None:
        return None  # a norm without running statistics uses those of the batch in either mode
    flag = node.args[at]
    return flag.value if isinstance(flag, ast.Constant) and isinstance(flag.value, bool) else None


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for such an expression, ``""`` for any other."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id])) if isinstance(node, ast.Name) else ""


def _items(value: Any) -> Any:
    """Return what can be iterated over; a tensor is taken apart by an operator, which counts its parts."""
    if not isinstance(value, (list, tuple, range, dict, str)):
        raise CaptureError(f"the TorchScript code takes apart a {type(value).__name__}, which is not read here")
    return cast("Any", value)


def _unread(node: ast.AST) -> CaptureError:
    text = ast.unparse(node).splitlines()[0][:80]
    return CaptureError(
        f"the TorchScript code has a statement that is not read here: {text}; analyze the module it was made from, or "
        "a torch.export of it"
    )
