"""Read a TorchScript archive into a tree of modules with the names of the original, without ``torch.jit``.

``torch.jit.load`` would run what a ``__setstate__`` in the file says, and that may write files. Here the pickle is read
as data and the code as text; the forward of the modules runs it operator by operator under the usual capture.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from autogroup.errors import CaptureError, LoadError
from autogroup.readers.archive import Archive
from autogroup.readers.checkpoint import MAX_PICKLE, as_tensor
from autogroup.readers.pickles import External, Made, Name, PickleError, read_pickle
from autogroup.readers.script_code import FLAG_POSITIONS, Program, baked_flag, dotted
from autogroup.readers.script_operators import number
from autogroup.tensors import DTYPES

_MAX_CODE = 16 << 20
_MAX_TOKENS = 400_000
"""Names, numbers and signs in the code: Python's parser takes some five hundred bytes for each."""
_TOKEN = re.compile(rb"\w+|[^\w\s]")
_MAX_VALUES = 64 << 20
"""Bytes of buffers and constants that are read: tables of indices decide what a graph reads."""
_MAX_NESTING = 100
_MAX_PARTS = 500_000
"""Plain values that are read in all; a module counts as fifty. A pickle may mean any number of them in a few bytes."""


def read_script(path: Path) -> tuple[nn.Module, tuple[Tensor, ...] | None, tuple[str, ...]]:
    """Read a TorchScript archive.

    Args:
        path: what ``torch.jit.save`` wrote. Weights stay unread: the parameters are on the meta device.

    Returns:
        The module; example inputs if it was traced, for which the shapes are in the file; notes.

    Raises:
        LoadError: the archive is damaged, or holds what is no module of tensors and plain values.
    """
    with Archive(path) as archive:
        try:
            reader = _Reader(archive)
            module = reader.module(reader.pickle("data.pkl"), 0)
            if not isinstance(module, ScriptedModule):
                raise LoadError(f"{path}: the TorchScript archive holds no module")
            return module, reader.traced_inputs(), reader.notes()
        except PickleError as error:
            raise LoadError(f"{path}: the TorchScript archive is damaged ({error}): save it again") from error


class ScriptedModule(nn.Module):
    """A module of a TorchScript archive; its forward runs the code in the archive.

    Args:
        program: the code.
        kind: qualified name of its class there.
    """

    def __init__(self, program: Program, kind: str) -> None:
        """Start without attributes."""
        super().__init__()
        self._program = program
        self._kind = kind
        self._plain: dict[str, Any] = {}

    def forward(self, *args: Any, method_of_script: str = "forward", **kwargs: Any) -> Any:
        """Run a method."""
        method = f"{self._kind}.{method_of_script}"
        return self._program.run(method, (self, *args), kwargs, self.training)

    def call(self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a method as a call of this module, so that its operators count as its own."""
        return self(*args, method_of_script=method, **kwargs)

    def get(self, name: str) -> Any:
        """Return an attribute of the script."""
        if name in self._plain:
            return self._plain[name]
        for own in (self._parameters, self._buffers, self._modules):
            if name in own:
                return own[name]
        if name == "training":
            return self.training
        raise CaptureError(f"the TorchScript code reads {name!r} of a module that has no such attribute")

    def set(self, name: str, value: Any) -> None:
        """Set a plain attribute of the script."""
        self._plain[name] = value


class _Reader:
    """Turns the objects of the pickle into modules, each one once."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._room = _MAX_VALUES
        self._parts = _MAX_PARTS
        self._modules: dict[int, Any] = {}
        self._parameters: dict[str, nn.Parameter] = {}
        self._classes: dict[str, ast.ClassDef] = {}
        functions = self._parse()
        constants = self.pickle("constants.pkl") if archive.find("constants.pkl") else ()
        values = tuple(number(self._value(value, "constants", 0)) for value in constants)
        self._program = Program(functions, values, _baked(functions.values()))

    def pickle(self, member: str) -> Any:
        name = self._archive.find(member)
        if name is None:
            raise LoadError(f"{self._archive.path}: the TorchScript archive has no {member}: save it again")
        return read_pickle(self._archive.read(name, limit=MAX_PICKLE)).value

    def notes(self) -> tuple[str, ...]:
        notes = ["read from a TorchScript archive"]
        mode = self._program.baked
        if mode is not None:
            notes.append(f"traced in {mode} mode; its norms and dropouts follow the mode of the analysis")
        return tuple(notes)

    def traced_inputs(self) -> tuple[Tensor, ...] | None:
        """Inputs of the shapes and dtypes that the model was traced with."""
        if self._archive.find("traced_inputs.pkl") is None:
            return None
        recorded = self._value(self.pickle("traced_inputs.pkl"), "", 0)
        inputs: Any = recorded.get("forward") if isinstance(recorded, dict) else None
        if not isinstance(inputs, list) or not all(isinstance(x, Tensor) for x in inputs):
            return None
        return tuple(torch.zeros_like(x, device="meta") for x in cast("list[Tensor]", inputs))

    def module(self, made: object, depth: int) -> Any:
        """Make a module of an object of a class of the script."""
        if depth > _MAX_NESTING:
            raise LoadError(f"{self._archive.path}: its modules are nested too deeply")
        if not isinstance(made, Made) or not isinstance(made.state, dict) or made.name not in self._classes:
            what = made.name if isinstance(made, Made) else type(made).__name__
            raise LoadError(f"{self._archive.path}: holds {what}, which is not read here; analyze the original module")
        if id(made) in self._modules:
            return self._modules[id(made)]
        definition = self._classes[made.name]
        self._count(50 + len(definition.body))
        module = self._modules[id(made)] = ScriptedModule(self._program, made.name)
        parameters, buffers = (_listed(definition, field) for field in ("__parameters__", "__buffers__"))
        for name, value in _finals(definition).items():
            module.set(name, value)
        for name, value in cast("dict[Any, Any]", made.state).items():
            self._attach(module, str(name), value, str(name) in parameters, str(name) in buffers, depth)
        return module

    def _attach(
        self, module: ScriptedModule, name: str, value: object, is_parameter: bool, is_buffer: bool, depth: int
    ) -> None:
        if name == "training":
            module.training = bool(value)
        elif is_parameter and value is not None:
            module.register_parameter(name, self._parameter(name, value))
        elif is_buffer:
            module.register_buffer(name, self._value(value, "data", depth))
        elif isinstance(value, Made) and value.name in self._classes and value.state is not None:
            module.add_module(name, self.module(value, depth + 1))
        else:
            module.set(name, self._value(value, "data", depth))

    def _parameter(self, name: str, value: object) -> nn.Parameter:
        """Return a parameter on the meta device; one for all names of a tied one."""
        self._count(10)
        info = as_tensor(name, value)
        assert isinstance(value, Made)
        if info is None:
            raise LoadError(f"{self._archive.path}: the parameter {name!r} is no plain tensor")
        empty = torch.empty(info.shape, dtype=DTYPES[info.dtype], device="meta")
        trains = bool(cast("tuple[Any, ...]", value.args)[4]) and empty.is_floating_point()
        return self._parameters.setdefault(info.storage, nn.Parameter(empty, requires_grad=trains))

    def _count(self, parts: int) -> None:
        self._parts -= parts
        if self._parts < 0:
            raise LoadError(f"{self._archive.path}: holds more modules and values than any model")

    def _value(self, value: object, folder: str, depth: int) -> Any:
        """Return a plain value: a number, a string, a tensor, or a container of such."""
        self._count(1)
        if depth > _MAX_NESTING:
            raise LoadError(f"{self._archive.path}: its values are nested too deeply")
        match value:
            case None | bool() | int() | float() | str():
                return value
            case list():
                return [self._value(v, folder, depth + 1) for v in cast("list[Any]", value)]
            case tuple():
                return tuple(self._value(v, folder, depth + 1) for v in cast("tuple[Any, ...]", value))
            case dict():
                return {k: self._value(v, folder, depth + 1) for k, v in cast("dict[Any, Any]", value).items()}
            case Made(maker=Name(text=text), args=(inner, *_)) if text.startswith("torch.jit._pickle."):
                return self._value(inner, folder, depth + 1)
            case Made(maker=Name(text="torch.device"), args=(str(device), *_)):
                return torch.device(device)
            case Made(state=None, args=member) if value.name in self._classes:
                return _member(value.name, self._classes[value.name], member)
            case Made() if value.name in self._classes:
                return self.module(value, depth + 1)
            case Made() if as_tensor("", value) is not None:
                return self._tensor(value, folder)
            case _:
                named = value.name if isinstance(value, Made) else type(value).__name__
                raise LoadError(f"{self._archive.path}: holds a value of {named or 'an unknown class'}, not read here")

    def _tensor(self, made: Made, folder: str) -> Tensor:
        """Return a tensor with its values if they are few, else on the meta device."""
        self._count(10)
        info = as_tensor("", made)
        args = cast("tuple[Any, ...]", made.args)
        assert info is not None
        dtype = DTYPES[info.dtype]
        storage, offset, _, stride = args[:4]
        key = cast("tuple[Any, ...]", storage.key)[2] if isinstance(storage, External) else ""
        member = self._archive.find(f"{folder}/{key}")
        if member is None or not 0 < info.bytes <= self._room or not 0 < self._archive.size(member) <= self._room:
            return torch.empty(info.shape, dtype=dtype, device="meta")
        content = self._archive.read(member, limit=self._room)
        self._room -= max(info.bytes, len(content))
        flat = torch.frombuffer(bytearray(content), dtype=dtype)
        return flat.as_strided(info.shape, tuple(stride), int(offset)).clone()

    def _parse(self) -> dict[str, ast.FunctionDef]:
        """Parse all code files: methods and functions by their qualified names."""
        functions: dict[str, ast.FunctionDef] = {}
        room, tokens = _MAX_CODE, _MAX_TOKENS
        for member in self._archive.names:
            inner = member.partition("/")[2]
            if not (inner.startswith("code/") and inner.endswith(".py")):
                continue
            text = self._archive.read(member, limit=room)
            room -= len(text)
            tokens -= sum(1 for _ in _TOKEN.finditer(text))
            if tokens < 0:
                raise LoadError(f"{self._archive.path}: holds more TorchScript code than any model")
            prefix = inner.removeprefix("code/").removesuffix(".py").replace("/", ".")
            for node in _parsed(text, f"{self._archive.path}: {member}").body:
                if isinstance(node, ast.FunctionDef):
                    functions[f"{prefix}.{node.name}"] = node
                elif isinstance(node, ast.ClassDef):
                    self._classes[f"{prefix}.{node.name}"] = node
                    methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
                    functions |= {f"{prefix}.{node.name}.{m.name}": m for m in methods}
        return functions


def _parsed(text: bytes, where: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings
        try:
            return ast.parse(text)
        except (RecursionError, MemoryError) as error:  # the second one is what Python's parser says of deep nesting
            raise LoadError(f"{where}: is nested too deeply to be TorchScript code: save it again") from error
        except (SyntaxError, ValueError) as error:
            raise LoadError(f"{where}: is no TorchScript code ({type(error).__name__}): save it again") from error


def _baked(functions: Any) -> str | None:
    """Return the mode that the flags of norms and dropouts have as literals, if any."""
    calls = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Call)]
    named = [(dotted(call.func).removeprefix("torch."), call) for call in calls]
    flags = {baked_flag(name, call) for name, call in named if name in FLAG_POSITIONS} - {None}
    return None if not flags else "train" if True in flags else "eval"


def _listed(definition: ast.ClassDef, field: str) -> frozenset[str]:
    """Return the strings of ``__parameters__ = [...]``."""
    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.List(elts=items)) if name == field:
                return frozenset(str(i.value) for i in items if isinstance(i, ast.Constant))
            case _:
                pass
    return frozenset()


def _member(name: str, definition: ast.ClassDef, value: object) -> str:
    """Return the member of an enumeration by the name that the code has for it."""
    for statement in definition.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=member)], value=ast.Constant(value=found)) if found == value:
                return f"{name}.{member}"
            case _:
                pass
    raise LoadError(f"the enumeration {name} has no member for the value in the archive: save it again")


def _finals(definition: ast.ClassDef) -> dict[str, Any]:
    """Return the constants of a class, ``eps : Final[float] = 1e-05``, that are plain numbers, strings or lists."""
    found: dict[str, Any] = {}
    for statement in definition.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    continue  # a constant of another kind: an error if the code reads it
            case _:
                pass
    return found
