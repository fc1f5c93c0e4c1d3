"""Files made to fill the memory or to take for ever, or that lie about what they hold: one function each."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.autogroup.hostile.mutations import archive_of, members, nested

Bomb = Callable[[Path, dict[str, Path]], Path]
BOMBS: dict[str, Bomb] = {}
"""Name -> writes a file into a folder, and returns what to give to the command line."""
REPEATED: set[str] = set()
"""Those that differ from others only in what they are packed into, or take long to write."""


def bomb(write: Bomb) -> Bomb:
    """Add a function to the table under its own name."""
    BOMBS[write.__name__.strip("_").replace("_", " ")] = write
    return write


def put(folder: Path, name: str, content: bytes) -> Path:
    """Write a file."""
    (folder / name).write_bytes(content)
    return folder / name


# --- pickles ----------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """The instruction that pushes a string."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def checkpoint(folder: Path, body: bytes, *, packed: bool = False) -> Path:
    """A file of ``torch.save`` around a pickle."""
    return put(folder, "bomb.pt", archive_of({"a/data.pkl": b"\x80\x02" + body + b".", "a/version": b"3\n"}, packed))


def one_tensor(key: bytes = b"X\1\0\0\0" + b"0", offset: bytes = b"K\0", shape: bytes = b"K\2\x85") -> bytes:
    """The instructions that make a tensor."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + b"K\2tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + b"K\1\x85" + hooks + b"tR"


_PICKLES: dict[str, Callable[[], bytes]] = {
    "many dicts": lambda: b"]q\0(" + b"}" * 1_900_000 + b"e",
    "many memoized lists": lambda: b"(" + b"]\x94" * 300_000 + b"l",
    "many names": lambda: b"(" + b"\x82\1" * 600_000 + b"l",
    "deep lists": lambda: b"]" * 200_000 + b"a" * 199_999,
    "deep tuples": lambda: b")" + b"\x85" * 300_000,
    "deep external references": lambda: b"N" + b"Q" * 300_000,
    "deep dicts": lambda: (b"}" + text("a")) * 300_000 + b"}" + b"s" * 300_000,
    "deep keys": lambda: b"}" + b")" + b"\x85" * 300_000 + b"Ns",
    "huge memo index": lambda: b"]r\xff\xff\xff\xff",
    "huge memo number": lambda: b"]p" + b"9" * 5000 + b"\n",
    "huge number": lambda: b"L" + b"9" * 1_000_000 + b"L\n",
    "huge length of a string": lambda: b"X\xff\xff\xff\xff",
    "huge length of bytes": lambda: b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    "negative length": lambda: b"T\xff\xff\xff\xff",
    "huge frame": lambda: b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f}",
    "laughing lists": lambda: b"]" + b"q\0](h\0h\0h\0h\0e" * 60,
    "a laughing name": lambda: b"]" + b"q\0](h\0h\0h\0h\0e" * 60 + b"q\1}h\1" + text("x") + b"R" + text("x") + b"s",
    "a laughing offset": lambda: (
        b"]" + b"q\0](h\0h\0h\0h\0e" * 60 + b"q\1}" + text("w") + one_tensor(offset=b"h\1") + b"s"
    ),
    "a deep offset": lambda: b"N" + b"Q" * 100_000 + b"q\1}" + text("w") + one_tensor(offset=b"h\1") + b"s",
    "a laughing key": lambda: b"]" + b"q\0](h\0h\0h\0h\0e" * 60 + b"q\1}h\1Ns",
    "a cycle": lambda: b"]q\0h\0a",
    "a dict in itself": lambda: b"}q\0" + text("a") + b"h\0s",
    "a state in itself": lambda: b"ca\nb\n)Rq\0h\0b",
    "large numbers as keys": lambda: (
        b"\x8b" + (2_000_000).to_bytes(4, "little") + b"\x7f" * 2_000_000 + b"q\0" + b"}(" + b"h\0N" * 400_000 + b"u"
    ),
    "long keys": lambda: (
        text("k" * 1_000_000) + b"q\0}h\0}(" + b"".join(text(f"{i}") + b"}" for i in range(20_000)) + b"us"
    ),
    "many state dicts": lambda: (
        one_tensor() + b"q\0}q\1(" + b"".join(text(f"{i}") + b"}" + text("w") + b"h\0s" for i in range(100_000)) + b"u"
    ),
    "a long storage": lambda: (
        text("k" * 1_000_000) + b"q\0}(" + b"".join(text(f"{i}") + one_tensor(key=b"h\0") for i in range(1_000)) + b"u"
    ),
    "many dims": lambda: b"}" + text("w") + one_tensor(shape=b"(" + b"K\2" * 500_000 + b"t") + b"s",
    "a negative size": lambda: b"}" + text("w") + one_tensor(shape=b"J\xff\xff\xff\xff\x85") + b"s",
    "an enormous size": lambda: (
        b"}" + text("w") + one_tensor(shape=b"(" + b"\x8a\x07" + b"\xff" * 6 + b"\x7f" + b"t") + b"s"
    ),
    "stacks of marks": lambda: b"(" * 500_000,
    "a copied list": lambda: b"](" + b"N" * 60_000 + b"eq\0" + b"0h\0" * 100_000,
    "a tuple of a tuple": lambda: b"(" + b"2" * 5 + b"t",
    "escapes in names": lambda: b"}" + text("\x1b[2J\x1b[31mred\r\n\x07") + one_tensor() + b"s",
    "escapes in code": lambda: b"c\x1b[2J\x1b[31mos\n\x1b]0;system\x07\n)R",
    "a name of a megabyte": lambda: b"c" + b"os" * 500_000 + b"\nsystem\n)R",
    "a dtype that is a module": lambda: (
        b"}" + text("w") + one_tensor().replace(b"FloatStorage", b"_inductorStorage") + b"s"
    ),
}
for _place, (_name, _body) in enumerate(_PICKLES.items()):
    forms: dict[str, Bomb] = {
        "pickle": lambda folder, _, body=_body: checkpoint(folder, body()),
        "packed pickle": lambda folder, _, body=_body: checkpoint(folder, body(), packed=True),
        "plain pickle": lambda folder, _, body=_body: put(folder, "bomb.bin", b"\x80\x02" + body() + b"."),
    }
    for _turn, (_form, _write) in enumerate(forms.items()):
        BOMBS[f"{_form}: {_name}"] = _write
        if _turn != _place % len(forms):
            REPEATED.add(f"{_form}: {_name}")


@bomb
def _metadata_of_many(folder: Path, _: dict[str, Path]) -> Path:
    put(folder, ".metadata", b"\x80\x02(" + b"}" * 1_500_000 + b"l.")
    return folder


# --- archives ---------------------------------------------------------------------------------------------------


def packed(name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of one packed member, and what makes it a state dict or a program."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method, compresslevel=9) as archive:
        archive.writestr(name, content)
        archive.writestr("net/archive_format", "pt2")
    return made.getvalue()


def lying(content: bytes, name: str, size: int) -> bytes:
    """Claim another unpacked size for a member, in both of its records."""
    found = bytearray(content)
    for signature, offset, skip in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        at = found.find(signature)
        while at >= 0:
            if found[at + skip : at + skip + len(name)] == name.encode():
                struct.pack_into("<I", found, at + offset, size)
            at = found.find(signature, at + 4)
    return bytes(found)


@bomb
def _zip_bomb(folder: Path, _: dict[str, Path]) -> Path:
    return put(folder, "bomb.pt2", packed("net/models/model.json", b" " * (220 << 20)))


@bomb
def _zip_bomb_that_lies(folder: Path, _: dict[str, Path]) -> Path:
    content = packed("net/models/model.json", b" " * (220 << 20))
    return put(folder, "bomb.pt2", lying(content, "net/models/model.json", 1000))


@bomb
def _zip_bomb_in_a_pickle(folder: Path, _: dict[str, Path]) -> Path:
    return put(folder, "bomb.pt", lying(packed("net/data.pkl", b"\0" * (220 << 20)), "net/data.pkl", 1000))


@bomb
def _lzma_bomb_that_lies(folder: Path, _: dict[str, Path]) -> Path:
    content = packed("net/models/model.json", b" " * (220 << 20), zipfile.ZIP_LZMA)
    return put(folder, "bomb.pt2", lying(content, "net/models/model.json", 1000))


REPEATED.add("lzma bomb that lies")


@bomb
def _bzip2_bomb_that_lies(folder: Path, _: dict[str, Path]) -> Path:
    content = packed("net/models/model.json", b" " * (220 << 20), zipfile.ZIP_BZIP2)
    return put(folder, "bomb.pt2", lying(content, "net/models/model.json", 1000))


@bomb
def _a_size_of_four_gigabytes(folder: Path, _: dict[str, Path]) -> Path:
    content = packed("net/models/model.json", b"{}")
    return put(folder, "bomb.pt2", lying(content, "net/models/model.json", 0xFFFFFFF0))


@bomb
def _many_members(folder: Path, _: dict[str, Path]) -> Path:
    """A directory of half a million entries without a name."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    directory = entry * 500_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    return put(folder, "bomb.pt", directory + end)


@bomb
def _archives_in_archives(folder: Path, seeds: dict[str, Path]) -> Path:
    content = seeds["state.pt"].read_bytes()
    for _ in range(50):
        content = archive_of({"a/data.pkl": content, "a/version": b"3"}, packed=True)
    return put(folder, "bomb.pt", content)


# --- JSON -------------------------------------------------------------------------------------------------------

_DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "deep lists": lambda: b"[" * 1_000_000,
    "closed deep lists": lambda: b"[" * 900 + b"]" * 900,
    "deep objects": lambda: b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
    "many lists": lambda: b'{"x":[' + b"[]," * 2_600_000 + b"0]}",
    "many objects": lambda: b'{"x":[' + b'{"a":1},' * 900_000 + b"0]}",
    "many empty objects": lambda: b'{"x":[' + b"{}," * 2_600_000 + b"0]}",
    "many keys": lambda: b'{"x":{' + b",".join(b'"%d":0' % i for i in range(600_000)) + b"}}",
    "one wide character": lambda: '{"x":"🔥'.encode() + b"a" * 7_900_000 + b'"}',
    "many wide strings": lambda: b'{"x":[' + b",".join('"🔥%d"'.encode() % i for i in range(500_000)) + b"]}",
    "a huge number": lambda: b'{"x":' + b"9" * 1_000_000 + b"}",
    "a huge exponent": lambda: b'{"x":1e' + b"9" * 1_000 + b"}",
    "no UTF-8": lambda: b'{"x":"\xff\xfe"}',
    "UTF-16": lambda: '{"x": 1}'.encode("utf-16"),
    "a mark of the byte order": lambda: b"\xef\xbb\xbf{}",
    "not a number": lambda: b'{"schema": NaN, "parameters": NaN}',
}


def _in_export(folder: Path, seeds: dict[str, Path], content: bytes, end: str) -> Path:
    """An exported program, packed, with one of its documents replaced."""
    found = members(seeds["exported.pt2"].read_bytes())
    name = next(name for name in found if name.endswith(end))
    return put(folder, "bomb.pt2", archive_of({**found, name: content}, packed=True))


for _name, _body in _DOCUMENTS.items():
    BOMBS[f"report: {_name}"] = lambda folder, _, body=_body: put(folder, "bomb.json", body())
    BOMBS[f"header: {_name}"] = lambda folder, _, body=_body: put(
        folder, "bomb.safetensors", len(body()).to_bytes(8, "little") + body()
    )
    for _end in ("model.json", "_weights_config.json", "_constants_config.json"):
        BOMBS[f"{_end}: {_name}"] = lambda folder, seeds, body=_body, end=_end: _in_export(folder, seeds, body(), end)
    REPEATED |= {f"{_end}: {_name}" for _end in ("_weights_config.json", "_constants_config.json")}


@bomb
def _every_document_is_large(folder: Path, seeds: dict[str, Path]) -> Path:
    found = members(seeds["exported.pt2"].read_bytes())
    large = {
        n: b'{"config":{},"x":[' + b"[]," * 1_300_000 + b"0]}" if n.endswith(".json") else c for n, c in found.items()
    }
    return put(folder, "bomb.pt2", archive_of(large, packed=True))


def _header(folder: Path, entries: dict[str, Any] | bytes, length: int | None = None, room: int = 64) -> Path:
    """A safetensors file."""
    content = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    announced = len(content) if length is None else length
    return put(folder, "bomb.safetensors", announced.to_bytes(8, "little") + content + bytes(room))


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    """One entry of the header of a safetensors file."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


_HEADERS: dict[str, Any] = {
    "overlap": {"a": entry(), "b": entry()},
    "negative offsets": {"a": entry(offsets=(-8, 0))},
    "reversed offsets": {"a": entry(offsets=(8, 0))},
    "offsets beyond the file": {"a": entry(offsets=(0, 1 << 60), shape=(1 << 58,))},
    "negative shape": {"a": entry(shape=(-1, -2))},
    "fractional shape": {"a": entry(shape=(2.0,))},
    "huge shape": {"a": entry(shape=(1 << 40, 1 << 40, 0), offsets=(0, 0))},
    "many dims": {"a": entry("X9", (3,) * 10_000)},
    "very many large dims": {"a": entry("F32", (1 << 62,) * 200_000)},
    "unknown dtype": {"a": entry("F3")},
    "a dtype that is a module": {"a": entry("_INDUCTOR", offsets=(0, 8))},
    "a dtype of a deprecated name": {"a": entry("HAS_CUDA", offsets=(0, 8))},
    "wrong types": {"a": {"dtype": 1, "shape": "ab", "data_offsets": {}}},
    "no objects": {"a": 1, "b": None},
    "deep metadata": {"__metadata__": nested(800, 0), "a": entry()},
    "a list": b"[]",
    "duplicate names": b"{" + b",".join([b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'] * 2) + b"}",
    "escapes": {"\x1b[2J\x1b[31m\r\n\x9b\u202e": entry(), "\ud800": entry()},
    "an empty name": {"": entry()},
    "a long name": {"n" * 100_000: entry()},
}
for _name, _entries in _HEADERS.items():
    BOMBS[f"header: {_name}"] = lambda folder, _, entries=_entries: _header(folder, entries)
for _length in (0, 1, 7, 1 << 20, 100_000_000, 100_000_001, 1 << 40, (1 << 63) - 1, (1 << 64) - 1):
    BOMBS[f"header of {_length} bytes"] = lambda folder, _, length=_length: _header(folder, {"a": entry()}, length)


# --- shards -----------------------------------------------------------------------------------------------------


def _index(folder: Path, where: Any, name: str = "bomb.json") -> Path:
    return put(folder, name, json.dumps({"weight_map": where}).encode())


_SHARDS: dict[str, Any] = {
    "elsewhere": {"w": "../x.safetensors"},
    "absolute": {"w": "/etc/passwd"},
    "itself": {"w": "bomb.json"},
    "nul": {"w": "a\0b"},
    "long": {"w": "x" * 10_000},
    "folder": {"w": "."},
    "empty": {"w": ""},
    "backslash": {"w": "..\\x"},
    "surrogate": {"w": "\ud800"},
    "escapes": {"w": "\x1b[31m"},
    "numbers": {"w": 3},
    "a list": ["x"],
    "nothing": {},
}
for _name, _where in _SHARDS.items():
    BOMBS[f"shard: {_name}"] = lambda folder, _, where=_where: _index(folder, where)


@bomb
def _shards_that_are_indices(folder: Path, _: dict[str, Path]) -> Path:
    """Each index names two others: to read them all would be to read 2**30 files."""
    for depth in range(30):
        for side in "ab":
            _index(folder, {s: f"{depth + 1}{s}.json" for s in "ab"}, f"{depth}{side}.json")
    return folder / "0a.json"
