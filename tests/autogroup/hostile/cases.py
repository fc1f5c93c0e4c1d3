"""A number -> a hostile file and a command: the random part of the suite."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.autogroup.hostile import mutations, poison

ARCH = "tests.autogroup.hostile.seeds:build"
_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "{}"),
    ("inspect", "{}"),
    ("inspect", "{}"),
    ("inspect", "{}", "--format", "json"),
    ("inspect", "{}", "--format", "tree"),
    ("inspect", "{}", "--format", "csv"),
    ("inspect", "{}", "--mode", "eval"),
    ("explain", "{}", "conv.weight"),
    ("lint", "{}"),
    ("lint", "{}", "--against", "names"),
    ("graph", "{}", "-o", "-", "--format", "html"),
    ("graph", "{}", "-o", "-", "--format", "dot"),
    ("graph", "{}", "-o", "-", "--format", "mermaid"),
    ("graph", "{}", "-o", "-", "--format", "graphml"),
    ("graph", "{}", "-o", "-", "--format", "json"),
)
TENSORS = ("state.pt", "legacy.bin", "lightning.ckpt", "one.safetensors", "shards.json", "distributed")
"""Seeds that need an architecture for a report."""


@dataclass(frozen=True)
class Case:
    """A file and a command on it."""

    title: str
    path: Path
    argv: list[str]

    @property
    def size(self) -> int:
        """Bytes of the file, or of all files in its folder."""
        files = self.path.parent.rglob("*") if self.path.is_file() else self.path.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())


GRAPHS = {
    "exported.pt2": "model.json",
    "bare.pt2": "model.json",
    "dynamic.pt2": "model.json",
    "traced.pt": "__torch__/tests/",
    "scripted.pt": "__torch__/tests/",
    "report.json": "",
}
"""Seeds with a graph or a report -> the member that describes it."""


def graph_case(number: int, seeds: dict[str, Path], folder: Path) -> Case:
    """Write a file whose description is of the right form but says something else; most of them are read."""
    rng = random.Random(f"graph {number}")
    name = rng.choice(sorted(GRAPHS))
    content = seeds[name].read_bytes()
    if name.endswith(".json"):
        changed = mutations.mutate_json(content, rng)
    else:
        found = mutations.members(content)
        member = rng.choice([n for n in found if GRAPHS[name] in n and n.endswith((".json", ".py"))])
        found[member] = (mutations.mutate_graph if member.endswith(".json") else mutations.mutate_code)(
            found[member], rng
        )
        changed = mutations.archive_of(found)
    (folder / name).write_bytes(changed)
    argv = [part.format(folder / name) for part in rng.choice(_COMMANDS)]
    argv += ["--input", "2x3x6x6"] if name == "scripted.pt" else []
    return Case(f"graph case {number}: {name}", folder / name, argv)


def random_case(number: int, seeds: dict[str, Path], folder: Path, canary: Path) -> Case:
    """Write the hostile file of that number into an empty folder."""
    rng = random.Random(number)
    name = rng.choice(sorted(seeds))
    source = seeds[name]
    copy = folder / "copy"
    shutil.copytree(source.parent, copy)
    target = rng.choice(sorted(file for file in copy.rglob("*") if file.is_file()))
    content = target.read_bytes()
    if rng.random() < 0.15 and content[:1] in b"P\x80":
        kind, payload = poison.pick(poison.payloads(canary), rng)
        place, changed = rng.choice(list(poison.poisoned(content, payload)))
        title = f"{kind} in {name}: {place}"
    else:
        others = [file.read_bytes() for path in seeds.values() for file in path.parent.rglob("*") if file.is_file()]
        changed, title = mutations.mutate(content, others, rng), f"{name} mutated"
    target.write_bytes(changed)
    path = copy / source.relative_to(source.parent)
    command = [part.format(path) for part in rng.choice(_COMMANDS)]
    architecture = ["--arch", ARCH] if name in TENSORS and rng.random() < 0.3 else []
    return Case(f"case {number}: {title}", path, [*command, *architecture])
