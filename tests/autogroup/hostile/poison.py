"""Pickles that would run code, one for every way that the format has to do so, in place of every pickle of a file."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import random
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.autogroup.hostile.mutations import archive_of, members


class _Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def payloads(canary: Path) -> dict[str, bytes]:
    """name -> a pickle that makes a file."""
    command = f"touch {canary}"
    shell, quoted = command.encode(), f"V{command}\n".encode()
    system = os.system.__module__.encode() + b"\nsystem\n"
    text = b"X" + len(shell).to_bytes(4, "little") + shell
    evil = {
        f"os.system, protocol {protocol}": pickle.dumps(_Call(os.system, command), protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    }
    return evil | {
        "eval": pickle.dumps(_Call(eval, f"__import__('pathlib').Path({str(canary)!r}).touch()"), protocol=2),
        "subprocess": pickle.dumps(_Call(subprocess.call, ["touch", str(canary)]), protocol=4),
        "inside a state dict": pickle.dumps({"w": _Call(os.system, command), "state_dict": {}}, protocol=2),
        "INST": b"(" + quoted + b"i" + system + b".",
        "OBJ": b"(c" + system + quoted + b"o.",
        "NEWOBJ_EX, of no class": b"\x80\x04c" + system + text + b"\x85}\x92.",
        "a built name": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "before the value": b"\x80\x02c" + system + text + b"\x85R0}.",
        "as a key": b"\x80\x02}c" + system + text + b"\x85RK\x01s.",
        "as a persistent id": b"\x80\x02c" + system + text + b"\x85RQ.",
        "as a state": b"\x80\x02c" + system + text + b"\x85R}" + text + b"b.",
        "a lying protocol": b"\x80\xff\x80\x63c" + system + text + b"\x85R.",
        "an unknown extension": b"\x80\x02\x82\x01" + text + b"\x85R.",
        "a second pickle": b"\x80\x02}.\x80\x02c" + system + text + b"\x85R.",
    }


def springs(payload: bytes, canary: Path) -> bool:
    """Whether unpickling it really makes the file, which it leaves behind no more; for the test of the trap itself."""
    file = io.BytesIO(payload)
    for _ in range(payload.count(b".\x80") + 1):
        try:
            pickle.load(file)
        except Exception:
            continue
    found = canary.exists()
    canary.unlink(missing_ok=True)
    return found


def poisoned(content: bytes, payload: bytes) -> Iterator[tuple[str, bytes]]:
    """Every version of a file in which one pickle is replaced by the payload: (place, file)."""
    if content[:2] == b"PK":
        found = members(content)
        for name, data in found.items():
            if name.endswith((".pkl", ".pt")) or data[:1] == b"\x80":
                yield name, archive_of({**found, name: payload})
        folder = next(iter(found)).partition("/")[0]
        for name in (".data/serialization_id", "data/0", "extra/x.pkl", "data/weights/weight_0", "data/constants/c.pt"):
            yield f"added {name}", archive_of({**found, f"{folder}/{name}": payload})
    elif content[:1] == b"\x80":
        starts = _pickles(content)
        for start, end in pairwise(starts):
            yield f"at {start}", content[:start] + payload + content[end:]
        yield "alone", payload
    else:
        yield "alone", payload


def _pickles(content: bytes) -> list[int]:
    """Where the pickles of a file in the old format start, and where the last one ends."""
    starts = [0]
    file = io.BytesIO(content)
    while len(starts) < 6:
        try:
            for _ in pickletools.genops(file):
                pass
        except Exception:
            break
        starts.append(file.tell())
    return starts


def pick(choices: dict[str, bytes], rng: random.Random) -> tuple[str, bytes]:
    """One of the payloads."""
    return rng.choice(sorted(choices.items()))
