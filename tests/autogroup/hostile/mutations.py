"""Ways to damage a file, all of them functions of a random number generator, so that a number reproduces the file."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

_INTERESTING = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1)
_MAGIC = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x80\x04",
    b"{",
    b"\x89HDF",
    b"GGUF",
    b"\x93NUMPY",
    b"",
    b"#!/bin/sh\n",
    b"\0" * 8,
)
_NAMES = (
    *(
        "../../escape.json",
        "/tmp/absolute.pkl",
        "x" * 60000,
        "net/data.pkl",
        "archive/models/model.json",
        "a/b/../c",
        ".",
    ),
    *("net/archive_format", "net/code/__torch__.py", "net/constants.pkl", "\x1b[2J\x1b[31mred", "net\\data.pkl", "é/ü"),
)


# --- bytes ------------------------------------------------------------------------------------------------------


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Truncate, flip, duplicate, delete, insert, or put another magic in front; a few times."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        size = len(found)
        # Descriptions stand at the start, or in archives at the end.
        at = rng.choice((rng.randrange(size + 1), min(size, rng.randrange(300)), max(0, size - rng.randrange(300))))
        length = rng.choice((1, 4, 64, 1000))
        match rng.randrange(7):
            case 0:
                del found[at:]
            case 1 if at < size:
                found[at] ^= 1 << rng.randrange(8)
            case 2:
                found[at:at] = found[at : at + length]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = rng.choice((rng.randbytes(length), b"[" * 5000, b"\xff" * 8, b"9" * length))
            case 5:
                found[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), struct.pack("<Q", 1 << rng.randrange(64))))
            case _:
                found[: rng.choice((0, 2, 8))] = rng.choice(_MAGIC)
    return bytes(found)


def splice(first: bytes, second: bytes, rng: random.Random) -> bytes:
    """The start of one file and the end of another."""
    return first[: rng.randrange(len(first) + 1)] + second[rng.randrange(len(second) + 1) :]


# --- JSON -------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1 << 40, 1 << 63, -(1 << 70), 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "nan", "../..", "x" * 10000, "\x1b[31m", "\ud800", [], {}, [[]], [{}], {"": None}, [1] * 1000),
)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Replace, drop, swap or repeat parts of a document; bytes that are no JSON are damaged as bytes."""
    try:
        document: Any = json.loads(content)
    except ValueError:
        return mutate_bytes(content, rng)
    for _ in range(rng.choice((1, 1, 1, 3))):
        document = _mutated(document, rng)
    return json.dumps(document).encode()


def _mutated(document: Any, rng: random.Random) -> Any:
    places = _places(document)
    if not places:
        return rng.choice(_VALUES)
    holder, key = rng.choice(places)
    value = holder[key]
    other, other_key = rng.choice(places)
    match rng.randrange(9):
        case 0 | 1 | 2:
            holder[key] = rng.choice(_VALUES)
        case 3:
            del holder[key]
        case 4 if isinstance(value, int):
            holder[key] = rng.choice((-value, value + 1, value * 1000003, 1 << rng.randrange(70)))
        case 4:
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 5 if isinstance(value, list):
            rng.shuffle(value)
        case 5:
            holder[key] = [value]
        case 6 if isinstance(value, list):
            value *= rng.choice((0, 2, 50))
        case 6 if isinstance(holder, dict):
            holder["renamed"] = holder.pop(key)
        case 7:
            holder[key] = nested(rng.choice((20, 200)), value)
        case _:
            return _mutated_graph(document, rng)
    return document


def nested(depth: int, value: Any) -> Any:
    """A value in that many lists."""
    for _ in range(depth):
        value = [value]
    return value


_OPERATORS = (
    *("aten.from_file.default", "aten.split.Tensor", "aten.unbind.int", "aten.view.default", "aten.cat.default"),
    *(
        "aten.add.Tensor",
        "aten.as_strided.default",
        "aten.set_.source_Tensor",
        "aten.resize_.default",
        "aten.mm.default",
    ),
    *("aten.einsum.default", "aten.repeat.default", "aten.expand.default", "aten.index.Tensor", "aten.copy_.default"),
    *(
        "aten.batch_norm.default",
        "aten.layer_norm.default",
        "aten.scaled_dot_product_attention.default",
        "nothing.at.all",
    ),
    *(
        "higher_order.cond",
        "higher_order.wrap_with_set_grad_enabled",
        "aten.embedding.default",
        "aten._assert_async.msg",
    ),
)


def mutate_graph(content: bytes, rng: random.Random) -> bytes:
    """Change sizes, operators, names or the order of a serialized graph, a few of them."""
    document: Any = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        document = _mutated_graph(document, rng) if rng.random() < 0.8 else _reordered(document, rng)
    return json.dumps(document).encode()


def _reordered(document: Any, rng: random.Random) -> Any:
    """Swap, repeat or drop operators, or the arguments of one."""
    nodes = document["graph_module"]["graph"]["nodes"]
    chosen = nodes if rng.random() < 0.5 or not nodes else rng.choice(nodes)["inputs"]
    if chosen:
        a, b = rng.randrange(len(chosen)), rng.randrange(len(chosen))
        match rng.randrange(3):
            case 0:
                chosen[a], chosen[b] = chosen[b], chosen[a]
            case 1:
                chosen[a] = chosen[b]
            case _:
                del chosen[a]
    return document


def mutate_code(content: bytes, rng: random.Random) -> bytes:
    """Exchange words or numbers of TorchScript code, or lines."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        words = list(re.finditer(rb"\w+", content))
        word, other = rng.choice(words), rng.choice(words)
        lines = content.splitlines(keepends=True)
        line = rng.randrange(len(lines))
        match rng.randrange(4 if lines[line].startswith(b"    ") else 2):
            case 0:
                content = content[: word.start()] + other.group() + content[word.end() :]
            case 1:
                number = rng.choice((b"0", b"-1", b"3", b"1099511627776", b"1e400", b"None", b"[]", b'"x"', b"True"))
                numbers = list(re.finditer(rb"\b\d+\b", content)) or [word]
                place = rng.choice(numbers)
                content = content[: place.start()] + number + content[place.end() :]
            case 2:
                del lines[line]
                content = b"".join(lines)
            case _:
                lines.insert(line + rng.choice((0, 1)), rng.choice([one for one in lines if one.startswith(b"    ")]))
                content = b"".join(lines)
    return content


def _mutated_graph(document: Any, rng: random.Random) -> Any:
    """Changes that keep the form of a graph: other sizes, operators, names and orders."""
    values = document.get("graph_module", {}).get("graph", {}).get("tensor_values") if isinstance(document, dict) else 0
    if isinstance(values, dict) and values and rng.random() < 0.25:
        value = rng.choice(list(values.values()))
        if isinstance(value, dict):
            sizes = rng.choice(
                ([], [0], [1], [2, 3], [8], [4, 8], [2, 8, 4, 4], [1] * 70, [1 << 20], [1 << 40], [1 << 62] * 2)
            )
            value["sizes"], value["strides"] = ([{"as_int": n} for n in ns] for ns in (sizes, [1] * len(sizes)))
        return document
    text = json.dumps(document)
    match rng.randrange(4):
        case 0:
            numbers = [m.span(1) for m in re.finditer(r'"as_int": (-?\d+)', text)]
            new = str(rng.choice((0, 1, -1, 3, 7, 1 << 20, 1 << 31, 1 << 40, 1 << 62)))
        case 1:
            numbers = [m.span(1) for m in re.finditer(r'"target": "torch\.ops\.([\w.]+)"', text)]
            new = rng.choice(_OPERATORS)
        case 2:
            numbers = [m.span(1) for m in re.finditer(r'"name": "(\w+)"', text)]
            new = text[slice(*rng.choice(numbers))] if numbers else ""
        case _:
            numbers = [m.span(1) for m in re.finditer(r'"(?:dtype|kind|layout)": (\d+)', text)]
            new = str(rng.randrange(40))
    if not numbers:
        return document
    start, end = rng.choice(numbers)
    return json.loads(text[:start] + new + text[end:])


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    found: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        value = stack.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        found += [(value, key) for key in keys]
        stack += [value[key] for key in keys]
    return found


# --- archives ---------------------------------------------------------------------------------------------------


def members(content: bytes) -> dict[str, bytes]:
    """What is in an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(content: dict[str, bytes] | list[tuple[str, bytes]], packed: bool = False) -> bytes:
    """An archive with these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in content.items() if isinstance(content, dict) else content:
            info = zipfile.ZipInfo(name)  # not writestr's own: duplicate names are wanted here
            info.compress_type = archive.compression
            archive.NameToInfo.pop(info.filename, None)
            archive.writestr(info, data)
    return made.getvalue()


def mutate_member(content: bytes, rng: random.Random) -> bytes:
    """Damage the content of one member; its checksum is right again afterwards."""
    found = members(content)
    described = [n for n in found if n.endswith((".json", ".pkl", ".py", ".pt"))]
    name = rng.choice(described if described and rng.random() < 0.9 else list(found))
    change = mutate_json if name.endswith(".json") and rng.random() < 0.85 else mutate_bytes
    found[name] = change(found[name], rng)
    return archive_of(found, packed=rng.random() < 0.2)


def mutate_members(content: bytes, rng: random.Random) -> bytes:
    """Rename, drop, duplicate, exchange, nest or add members."""
    found = list(members(content).items())
    at = rng.randrange(len(found))
    name, data = found[at]
    match rng.randrange(6):
        case 0:
            found[at] = (rng.choice(_NAMES), data)
        case 1:
            del found[at]
        case 2:
            found.insert(rng.randrange(len(found) + 1), (name, mutate_bytes(data, rng)))
        case 3:
            other = rng.randrange(len(found))
            found[at], found[other] = (name, found[other][1]), (found[other][0], data)
        case 4:
            found[at] = (name, content)
        case _:
            found.insert(rng.randrange(len(found) + 1), (rng.choice(_NAMES), rng.choice((b"", data, bytes(1 << 20)))))
    return archive_of(found, packed=rng.random() < 0.5)


_DIRECTORY_FIELDS = ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4), (46, 1))
_END_FIELDS = ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
_LOCAL_FIELDS = ((6, 2), (8, 2), (18, 4), (22, 4), (26, 2), (28, 2), (30, 1))


def mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """Make the fields of the archive's own records lie: sizes, offsets, counts, methods, flags, names."""
    found = bytearray(content)
    kinds = {b"PK\x01\x02": _DIRECTORY_FIELDS, b"PK\x05\x06": _END_FIELDS, b"PK\x03\x04": _LOCAL_FIELDS}
    for _ in range(rng.choice((1, 1, 3))):
        signature = rng.choice(list(kinds))
        starts = [m.start() for m in re.finditer(re.escape(signature), found)]
        offset, width = rng.choice(kinds[signature])
        if starts:
            at = rng.choice(starts) + offset
            value = rng.choice((*_INTERESTING, 8, 12, 14, 99, rng.randrange(1 << 32)))
            found[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(found)


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage a file in one of the ways that fit it."""
    fitting: list[Mutation] = [mutate_bytes]
    if content[:2] == b"PK":
        fitting = [mutate_bytes, mutate_member, mutate_member, mutate_member, mutate_members, mutate_zip]
    elif content[:1] == b"{":
        fitting = [mutate_bytes, mutate_json, mutate_json, mutate_json]
    elif content[8:9] == b"{":
        fitting = [mutate_bytes, _mutate_header, _mutate_header, _mutate_header]
    if rng.random() < 0.05:
        return splice(content, rng.choice(others), rng)
    return rng.choice(fitting)(content, rng)


def _mutate_header(content: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file; its announced length is right again afterwards, mostly."""
    length = int.from_bytes(content[:8], "little")
    header = mutate_json(content[8 : 8 + length], rng)
    announced = len(header) if rng.random() < 0.9 else rng.choice((0, len(header) - 1, 1 << 40, (1 << 64) - 1))
    return announced.to_bytes(8, "little") + header + content[8 + length :]
