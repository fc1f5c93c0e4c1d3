"""Single changes to the functions of a Python file, as a careless author would make them."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
COMPARISON: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
PAIRS = (
    ("add", "sub"),
    ("add_", "sub_"),
    ("mul", "div"),
    ("mul_", "div_"),
    ("maximum", "minimum"),
    ("max", "min"),
    ("clamp_min", "clamp_max"),
    ("beta1", "beta2"),
    ("b1", "b2"),
    ("one_minus_beta1", "one_minus_beta2"),
)
TWIN = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
SYMMETRIC = {"dot", "_dot", "maximum", "minimum", "max", "min", "hypot", "isclose", "transpose", "zip", "addcmul_"}
"""Functions of which two arguments may change places: ⟨a, b⟩ = ⟨b, a⟩."""
HARMLESS = {"strict"}
"""Keywords that only guard against mistakes."""
CONTEXT = 40


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        file: path of the file.
        function: qualified name of the function or method around it.
        line: where, in the original.
        old: the first line of the statement around it, as `ast.unparse` writes it.
        new: the same line after the change.
        source: the function after the change, in classes without anything else if it is a method.
    """

    file: str
    function: str
    line: int
    old: str
    new: str
    source: str

    @property
    def change(self) -> str:
        """The change with some text around it, for reading and for the table of equivalents."""
        start = _common(self.old, self.new)
        end = _common(self.old[start:][::-1], self.new[start:][::-1])
        first = max(start - CONTEXT, 0)
        old, new = (text[first : len(text) - max(end - CONTEXT, 0)] for text in (self.old, self.new))
        return f"{old}  →  {new}"


def _common(a: str, b: str) -> int:
    """Return the length of the longest common start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def mutants(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a file.

    Constructors that only hand their arguments on, default values, decorators, docstrings and messages stay as they
    are; whatever else functions and methods do is changed.
    """
    tree = ast.parse(source)
    found: list[Mutant] = []
    for name, function in functions(tree):
        for statement in statements(function):
            for node, replacement in changes(statement, function):
                found.append(_mutant(file, name, function, statement, node, replacement))
    return [mutant for mutant in found if mutant.old != mutant.new]  # a(x, x) has no other order


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions and methods of a module with their qualified names, but not those inside others."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and not _hands_on(node):
            yield prefix + node.name, node


def _hands_on(function: ast.FunctionDef) -> bool:
    return function.name == "__init__" and len(function.body) == 1


def statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Yield the statements of a function from the outside in, itself first, without docstrings."""
    yield function
    for node in ast.walk(function):
        for body in (getattr(node, "body", None), getattr(node, "orelse", None), getattr(node, "finalbody", None)):
            for statement in body if isinstance(body, list) else []:
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                    yield statement


def changes(statement: ast.stmt, function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Yield pairs of a node of the statement itself, not of those inside it, and what to put in its place."""
    if isinstance(statement, ast.FunctionDef):
        yield from _swapped_slots(statement)
        return
    if isinstance(statement, ast.Expr | ast.AugAssign | ast.Raise) or _overwrites(statement, function):
        yield statement, ast.copy_location(ast.Pass(), statement)
    if isinstance(statement, ast.Raise | ast.Import | ast.ImportFrom | ast.ClassDef):
        return
    if isinstance(statement, ast.If | ast.While):
        yield statement.test, ast.UnaryOp(ast.Not(), statement.test)
    for expression in _own_expressions(statement):
        nodes = list(ast.walk(expression))
        guards = [n.value for n in nodes if isinstance(n, ast.keyword) and n.arg in HARMLESS]
        for node in (n for n in nodes if n not in guards):
            for replacement in _replacements(node):
                yield node, replacement
            if isinstance(node, ast.Attribute) and _in_place(node.attr) and _shows(node, statement, function):
                yield node, ast.Attribute(node.value, node.attr.removesuffix("_"), node.ctx)


def _own_expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    skipped = {"annotation", "returns", "decorator_list", "body", "orelse", "finalbody", "handlers"}
    for name, value in ast.iter_fields(statement):
        for node in value if isinstance(value, list) else [value]:
            if name not in skipped and isinstance(node, ast.AST):
                yield node


def _overwrites(statement: ast.stmt, function: ast.FunctionDef) -> bool:
    """Whether an assignment gives a new value to what has one: dropping any other is a NameError."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
        return False
    name = statement.targets[0].id
    stores = [
        n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)
    ]
    return name in {a.arg for a in function.args.args} or stores[0] is not statement.targets[0]


def _swapped_slots(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST]]:
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    names = [argument.arg for argument in function.args.args]
    pairs = enumerate(itertools.pairwise(names[:-1])) if function.name in ("rule", "observe") else ()
    for i in [i for i, pair in pairs if read.intersection(pair)]:
        swapped = copy.deepcopy(function)
        a, b = swapped.args.args[i : i + 2]
        a.arg, b.arg = b.arg, a.arg
        yield function, swapped


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        yield ast.BinOp(node.left, BINARY[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield ast.Compare(node.left, [COMPARISON[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            negated = [*node.ifs[:i], ast.UnaryOp(ast.Not(), test), *node.ifs[i + 1 :]]
            yield ast.comprehension(node.target, node.iter, negated, node.is_async)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if node.value in (0, 1) else node.value * 2)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in TWIN:
        yield ast.Name(TWIN[node.id], node.ctx)
    elif isinstance(node, ast.Attribute):
        yield from _attributes(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _attributes(node: ast.Attribute) -> Iterator[ast.AST]:
    if node.attr in TWIN:
        yield ast.Attribute(node.value, TWIN[node.attr], node.ctx)


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _shows(node: ast.Attribute, statement: ast.stmt, function: ast.FunctionDef) -> bool:
    """Whether it matters that a tensor changes in place: not for a temporary, or a variable that is read no more."""
    receiver = node.value
    while isinstance(receiver, ast.Call) and isinstance(receiver.func, ast.Attribute):
        if not _in_place(receiver.func.attr) and receiver.func.attr != "view":
            return False
        receiver = receiver.func.value
    if not isinstance(receiver, ast.Name):
        return isinstance(receiver, ast.Subscript | ast.Attribute)
    if _leads(node, statement) or receiver.id in {argument.arg for argument in function.args.args}:
        return True
    loops = any(isinstance(other, ast.For | ast.While) for other in ast.walk(function))
    loads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == receiver.id]
    return loops or any(n.lineno > (statement.end_lineno or 0) for n in loads)


def _leads(node: ast.Attribute, statement: ast.stmt) -> bool:
    """Whether a method is called for its effect: in the chain of calls that is the whole statement."""
    link: ast.AST = statement.value if isinstance(statement, ast.Expr) else statement
    while isinstance(link, ast.Call) and isinstance(link.func, ast.Attribute):
        if link.func is node:
            return True
        link = link.func.value
    return False


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if isinstance(function, ast.Attribute) and name == "neg":
        yield function.value
    plain = not any(isinstance(a, ast.Starred) for a in node.args)
    for i in range(len(node.args) - 1) if plain and name not in SYMMETRIC else ():
        a, b = node.args[i : i + 2]
        yield ast.Call(function, [*node.args[:i], b, a, *node.args[i + 2 :]], node.keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in HARMLESS:
            yield ast.Call(function, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])


class _Replace(ast.NodeTransformer):
    def __init__(self, node: ast.AST, replacement: ast.AST) -> None:
        self.node, self.replacement = node, replacement

    def visit(self, node: ast.AST) -> Any:
        return self.replacement if node is self.node else super().visit(node)


def _mutant(
    file: str, name: str, function: ast.FunctionDef, statement: ast.stmt, node: ast.AST, replacement: ast.AST
) -> Mutant:
    memo: dict[int, Any] = {}  # knows the copies of the node to replace and of the statement around it
    changed = copy.deepcopy(function, memo)
    changed = _Replace(memo[id(node)], copy.deepcopy(replacement)).visit(changed)
    whole = replacement if node is statement else memo[id(statement)]
    changed.decorator_list = []
    for owner in reversed(name.split(".")[:-1]):
        changed = ast.ClassDef(owner, [], [], [changed], [])
    new = ast.unparse(ast.fix_missing_locations(changed))
    return Mutant(file, name, statement.lineno, _head(statement), _head(whole), new)


def _head(statement: ast.AST) -> str:
    """Return the first line of a statement, as it is written on one line."""
    lines = ast.unparse(statement).split("\n")
    return next(line for line in lines if not line.startswith("@")).strip()
