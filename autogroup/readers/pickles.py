"""Pickles as data: what a pickle would import and call is noted, never imported and never called.

Unpickling means running a small program that may call anything. Here the same program runs on a machine that knows no
classes: a name stays a ``Name``, a call becomes a ``Made``. That is enough to find the tensors of a checkpoint with
their shapes, and the code that a file would run. It also bounds the work: one object at most per byte and instruction.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

MAX_INSTRUCTIONS = 2_000_000
"""A checkpoint needs about thirty per tensor; each takes about two microseconds and some seventy bytes."""


class PickleError(ValueError):
    """The bytes are no pickle, or one that no version of torch writes."""


@dataclass(frozen=True, slots=True)
class Name:
    """Something that the pickle would import."""

    text: str
    """``module.attribute``."""


@dataclass(slots=True, eq=False)
class Made:
    """An object that the pickle would make by calling something."""

    maker: object
    """What would be called: a ``Name``, or anything else in a pickle that nobody should trust."""
    args: object
    state: object = None
    """What would be set on the object afterwards."""

    @property
    def name(self) -> str:
        """The name that would be called, ``""`` if it is no plain name."""
        return self.maker.text if isinstance(self.maker, Name) else ""


@dataclass(slots=True, eq=False)
class External:
    """A reference to something outside of the pickle, such as the bytes of a tensor."""

    key: object


@dataclass(frozen=True, slots=True)
class Pickle:
    """The content of one pickle."""

    value: Any
    """Plain numbers, strings, lists, tuples and dicts, with ``Name``, ``Made`` and ``External`` among them."""
    names: tuple[str, ...]
    """All that the pickle would import, in order."""


def read_pickle(stream: bytes) -> Pickle:
    """Read the first pickle of a stream without unpickling it.

    Args:
        stream: at least one pickle.

    Raises:
        PickleError: the stream does not start with a pickle, or with one that is larger than any checkpoint.

    Example:
        >>> import pickle
        >>> from fractions import Fraction
        >>> found = read_pickle(pickle.dumps({"half": Fraction(1, 2)}))
        >>> found.names, found.value["half"].args
        (('fractions.Fraction',), (1, 2))
    """
    return next(read_pickles(stream))


def read_pickles(stream: bytes) -> Iterator[Pickle]:
    """Read the pickles that follow one another in a stream, as ``read_pickle`` does; stop after the last one."""
    file = io.BytesIO(stream)
    left = MAX_INSTRUCTIONS
    while True:
        machine = _Machine()
        try:
            for opcode, argument, _ in pickletools.genops(file):
                left -= 1
                if left < 0:
                    raise PickleError("it has more instructions than any checkpoint")
                machine.step(opcode.name, argument)
            value = machine.pop()
        except PickleError:
            raise
        except Exception as error:  # an instruction that does not fit the stack, in any of its ways
            raise PickleError(f"no pickle: {str(error).splitlines()[0] if str(error) else 'it ends early'}") from error
        yield Pickle(value, tuple(machine.names))


class _Machine:
    """The stack machine of the pickle format, made of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _NEW:
            self.stack.append(_NEW[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name in _GET:
            self.stack.append(self.memo[int(argument)])
        elif name in _PUT:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif name not in _NOTHING:
            getattr(self, f"_{name.lower()}")(argument)

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise PickleError("no pickle: an instruction takes more than there is")
        return self.stack.pop()

    def _marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _name(self, text: str) -> None:
        self.stack.append(self.names.setdefault(text, Name(text)))

    # --- one method per instruction, called by its name in pickletools ---

    def _mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    _frozenset = _tuple

    def _dict(self, _: Any) -> None:
        items = self._marked()
        self.stack.append({})
        self._set(items)

    def _append(self, _: Any) -> None:
        self._extend([self.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            cast("list[Any]", target).extend(items)
        elif not isinstance(target, Made):  # an object of a class that is a list: its items do not matter here
            raise PickleError("no pickle: items for something that is no list")

    def _setitem(self, _: Any) -> None:
        value = self.pop()
        self._set([self.pop(), value])

    def _setitems(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):
            return  # an object of a class that is a dict
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key if _is_plain_key(key) else External(key)] = value

    def _global(self, argument: Any) -> None:
        self._name(str(argument).replace(" ", ".", 1))

    def _stack_global(self, _: Any) -> None:
        attribute, module = self.pop(), self.pop()
        plain = isinstance(module, str) and isinstance(attribute, str)
        self._name(f"{module}.{attribute}" if plain else "<a name built while loading>")

    def _inst(self, argument: Any) -> None:
        args = tuple(self._marked())
        self._global(argument)
        self.stack[-1] = Made(self.stack[-1], args)

    def _obj(self, _: Any) -> None:
        maker, *args = self._marked()
        self.stack.append(Made(maker, tuple(args)))

    def _reduce(self, _: Any) -> None:
        args, maker = self.pop(), self.pop()
        ordered = isinstance(maker, Name) and maker.text == "collections.OrderedDict" and not args
        self.stack.append({} if ordered else Made(maker, args))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        named, args, maker = self.pop(), self.pop(), self.pop()
        self.stack.append(Made(maker, args, named))

    def _build(self, _: Any) -> None:
        state = self.pop()
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def _persid(self, argument: Any) -> None:
        self.stack.append(External(argument))

    def _binpersid(self, _: Any) -> None:
        self.stack.append(External(self.pop()))

    def _ext1(self, argument: Any) -> None:
        self._name(f"<extension {argument}>")

    _ext2 = _ext4 = _ext1


def _is_plain_key(key: object) -> bool:
    """Whether hashing a key is quick: a tuple or a large number is walked through, however deep or long it is."""
    return key.bit_length() <= 64 if isinstance(key, int) else isinstance(key, _PLAIN_KEYS)


_PLAIN_KEYS = (str, float, bytes, Name, type(None))
_CONSTANTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_NEW: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # members need not be hashable here
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "NEXT_BUFFER": lambda: External("buffer"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_NOTHING = frozenset({"PROTO", "FRAME", "STOP", "READONLY_BUFFER"})
