"""Programs and reports of the right form whose reading or analysis must end: TorchScript, graphs, saved reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.autogroup.hostile.bombs import BOMBS, put
from tests.autogroup.hostile.mutations import archive_of, members

# --- TorchScript ------------------------------------------------------------------------------------------------

_STATEMENTS: dict[str, str] = {
    "writes a file by out": 'x = torch.from_file("{canary}", True, 9, out=x)',
    "writes a file by a size": 'x = torch.from_file("{canary}", True, x)',
    "writes a file by a keyword": 'x = torch.from_file("{canary}", shared=True, size=9, dtype=x)',
    "does not end": "while True:\n      x = 1",
    "does not end, with operators": "while True:\n      x = torch.relu(x)",
    "doubles a list": "x = [1]\n    for i in range(60):\n      x = torch.add(x, x)",
    "doubles a string": 'x = "ab"\n    for i in range(60):\n      x = torch.add(x, x)',
    "repeats a string": 'x = torch.mul("ab", 9000000000)',
    "repeats a tuple": "x = torch.mul((1, 2), 9000000000)",
    "squares a number": "x = 3\n    for i in range(60):\n      x = torch.mul(x, x)",
    "lists a range": "x = torch.list(range(9000000000))",
    "extends a list": "x = [1]\n    for i in range(60):\n      y = torch.extend(x, x)",
    "walks a laughing list": "x = [1]\n    for i in range(60):\n      x = [x, x]\n    y = torch.relu(x)",
    "prints a laughing list": "x = [1]\n    for i in range(60):\n      x = [x, x]\n    y = str(x)",
    "compares laughing lists": "x = [1]\n    y = [1]\n    for i in range(60):\n      x = [x, x]\n      y = [y, y]\n"
    "    z = torch.eq(x, y)",
    "hashes a laughing tuple": "x = (1, 1)\n    for i in range(60):\n      x = (x, x)\n    y = {{x: 1}}",
    "looks up a laughing tuple": "x = (1, 1)\n    for i in range(60):\n      x = (x, x)\n    y = {{1: 1}}[x]",
    "a list in itself": "x = [1]\n    y = torch.append(x, x)\n    z = torch.relu(x)",
    "walks a tensor": "for i in torch.zeros([900000000, 1]):\n      x = 1",
    "unpacks a tensor": "a, b = torch.zeros([900000000, 1])",
    "splits a tensor": "x = torch.split(torch.zeros([900000]), 1)",
    "takes a tensor apart": "x = torch.unbind_copy(torch.zeros([900000]))",
    "a real tensor": "x = torch.ones([900000000000])\n    y = torch.item(torch.sum(x))\n    z = torch.nonzero(x)",
    "a huge power": "x = torch.pow(10, 99999999)",
    "a format": 'x = "ab"\n    for i in range(2000000):\n      x = torch.format(x, "01234567890123456789")',
    "slices": "x = torch.mul([1], 1000000)\n    for i in range(2000000):\n      y = torch.slice(x)",
    "calls itself": "return (self).forward(x, )",
    "an attribute of Python": "x = x.__class__",
    "a method of Python": "x = (x).numpy()",
    "an import": "import os",
    "a comprehension": "x = [i for i in range(9)]",
    "a lambda": "x = (lambda: 1)()",
    "a deep expression": "x = " + "(" * 5000 + "1" + ")" * 5000,
    "a deep sum": "x = " + "-" * 50_000 + "1",
    "deep attributes": "x = a" + ".b" * 100_000,
    "many statements": "a;" * 4_000_000 + "a",
    "many numbers": "x = [" + "1," * 1_500_000 + "]",
}


def _script(folder: Path, seeds: dict[str, Path], statement: str) -> Path:
    """The scripted model with a statement before those of its forward."""
    found = members(seeds["scripted.pt"].read_bytes())
    name = next(n for n in found if n.endswith(".py") and b"training" in found[n])
    code = found[name].decode()
    start = next(line for line in code.splitlines() if line.startswith("    ") and " = " in line)
    planted = statement.format(canary=folder / "canary")
    found[name] = code.replace(start, f"    {planted}\n{start}", 1).encode()
    return put(folder, "bomb.pt", archive_of(found, packed=True))


for _name, _statement in _STATEMENTS.items():
    BOMBS[f"script: {_name}"] = lambda folder, seeds, statement=_statement: _script(folder, seeds, statement)


# --- graphs that are read, and whose analysis must end ------------------------------------------------------------

Edit = Callable[[Any], None]


def _sizes(graph: Any, start: str, sizes: list[int]) -> None:
    """Give all values whose names start so these sizes."""
    for name, value in graph["tensor_values"].items():
        if name.startswith(start):
            value["sizes"] = [{"as_int": n} for n in sizes]
            value["strides"] = [{"as_int": 1} for _ in sizes]


def _target(graph: Any, old: str, new: str) -> Any:
    """Give the first call of an operator another one, and return the call."""
    call = next(node for node in graph["nodes"] if old in node["target"])
    call["target"] = f"torch.ops.{new}"
    return call


def _in_parts(graph: Any) -> None:
    """A tensor split into single entries, of which there are a billion."""
    for name in graph["tensor_values"]:
        if not name.startswith(("p_", "b_", "c_")):
            _sizes(graph, name, [1 << 30])
    call = next(node for node in graph["nodes"] if "aten.split" in node["target"])
    call["inputs"][1]["arg"] = {"as_int": 1}


def _cycle(graph: Any) -> None:
    """Every operator reads its own result."""
    for node in graph["nodes"]:
        for item in node["inputs"]:
            if "as_tensor" in item["arg"] and "as_tensor" in node["outputs"][0]:
                item["arg"] = node["outputs"][0]


def _chain(graph: Any) -> None:
    """A long chain of one operator."""
    first = next(node for node in graph["nodes"] if "aten.relu" in node["target"])
    for number in range(2_000):
        again = json.loads(json.dumps(first))
        again["inputs"][0]["arg"] = {
            "as_tensor": {"name": first["outputs"][0]["as_tensor"]["name"] if not number else f"v{number - 1}"}
        }
        again["outputs"] = [{"as_tensor": {"name": f"v{number}"}}]
        graph["tensor_values"][f"v{number}"] = graph["tensor_values"][first["outputs"][0]["as_tensor"]["name"]]
        graph["nodes"].insert(graph["nodes"].index(first) + 1 + number, again)


_EDITS: dict[str, Edit] = {
    "parameters of a billion entries": lambda graph: _sizes(graph, "p_", [1 << 30]),
    "parameters of 2**40 entries": lambda graph: _sizes(graph, "p_", [1 << 40]),
    "parameters of 2**62 entries": lambda graph: _sizes(graph, "p_", [1 << 31, 1 << 31]),
    "values of a billion entries": lambda graph: _sizes(graph, "", [1 << 30]),
    "values of 2**40 entries in four axes": lambda graph: _sizes(graph, "", [1 << 10] * 4),
    "values without entries": lambda graph: _sizes(graph, "", [0, 0, 0, 0]),
    "values of no axes": lambda graph: _sizes(graph, "", []),
    "negative sizes": lambda graph: _sizes(graph, "", [-2, -2]),
    "ten thousand axes": lambda graph: _sizes(graph, "", [2] * 10_000),
    "seventy axes": lambda graph: _sizes(graph, "", [1] * 70),
    "a billion parts": _in_parts,
    "a cycle": _cycle,
    "a long chain": _chain,
    "an operator that opens a file": lambda graph: _target(graph, "aten.relu", "aten.from_file.default"),
    "an operator that writes a file": lambda graph: _target(graph, "aten.relu", "aten.from_file.out"),
    "an operator that is not there": lambda graph: _target(graph, "aten.relu", "nothing.at_all.default"),
    "an attribute that is no operator": lambda graph: _target(graph, "aten.relu", "load_library.__func__"),
    "no operators": lambda graph: graph["nodes"].clear(),
    "all operators twice": lambda graph: graph["nodes"].extend(graph["nodes"]),
    "operators in reverse": lambda graph: graph["nodes"].reverse(),
}


def _edited(folder: Path, seeds: dict[str, Path], edit: Edit) -> Path:
    """The exported program with its graph edited."""
    found = members(seeds["exported.pt2"].read_bytes())
    name = next(name for name in found if name.endswith("model.json"))
    document = json.loads(found[name])
    edit(document["graph_module"]["graph"])
    return put(folder, "bomb.pt2", archive_of({**found, name: json.dumps(document).encode()}))


for _name, _edit in _EDITS.items():
    BOMBS[f"graph: {_name}"] = lambda folder, seeds, edit=_edit: _edited(folder, seeds, edit)


# --- reports ----------------------------------------------------------------------------------------------------


def _in_report(folder: Path, seeds: dict[str, Path], edit: Edit) -> Path:
    document = json.loads(seeds["report.json"].read_bytes())
    edit(document)
    return put(folder, "bomb.json", json.dumps(document).encode())


def _member(shape: list[int], runs: list[list[int]]) -> dict[str, Any]:
    return {"parameter": "conv.weight", "power": "1", "shape": shape, "label_shape": shape, "runs": runs}


def _members(document: Any, member: dict[str, Any], count: int) -> None:
    document["symmetries"] = [{"kind": "rescale", "count": 1, "eps": False, "members": [member] * count}]


def _partition(document: Any, partition: dict[str, Any], count: int = 1) -> None:
    entry = {**document["parameters"][0], "partition": partition, "shape": partition["shape"], "verdict": "invariant"}
    document["parameters"] = [{**entry, "name": f"p{i}"} for i in range(count)]


_REPORTS: dict[str, Edit] = {
    "a symmetry of many labels": lambda d: _members(d, _member([1 << 20], [[0, 1, 1 << 20]]), 4),
    "too many labels": lambda d: _members(d, _member([1 << 40], [[0, 1, 1 << 40]]), 1),
    "a negative count": lambda d: _members(d, _member([4], [[0, 1, -4]]), 1),
    "a partition of many blocks": lambda d: _partition(
        d, {"shape": [1 << 20], "channel_dims": [0], "channel_groups": None}, 2
    ),
    "a partition of many axes": lambda d: _partition(
        d, {"shape": [2] * 20, "channel_dims": list(range(20)), "channel_groups": None}
    ),
    "a partition of nine hundred axes": lambda d: _partition(
        d, {"shape": [1] * 900, "channel_dims": [], "channel_groups": None}
    ),
    "irregular blocks": lambda d: _partition(
        d, {"shape": [720_720], "label_shape": [720_720], "runs": [[i % 7, 16] for i in range(45_045)]}
    ),
    "a huge shape": lambda d: d["parameters"][0].update(shape=[1 << 62] * 5_000),
    "a power of zero": lambda d: _members(d, {**_member([4], [[0, 1, 4]]), "power": "1/0"}, 1),
    "numbers for names": lambda d: d["parameters"][0].update(name=3),
    "a note that is no text": lambda d: d["capture"].update(notes=[{}]),
    "a mode that is no text": lambda d: d["capture"].update(mode=[]),
    "a path of numbers": lambda d: d["parameters"][0].update(path=[{"operator": 1, "module": 2, "source": 3}]),
    "operators that cannot be counted": lambda d: d.update(unknown_ops={"a": "b"}),
    "escapes": lambda d: d["parameters"][0].update(name="\x1b[2J", reason="\x1b]0;x\x07"),
}
for _name, _edit in _REPORTS.items():
    BOMBS[f"saved report: {_name}"] = lambda folder, seeds, edit=_edit: _in_report(folder, seeds, edit)
