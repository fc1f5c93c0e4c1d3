"""Hostile and broken files: nothing in them runs, and whatever they hold ends in one line and an exit code.

``AUTOGROUP_FUZZ_FILES=2000`` tries that many random files, half as many random graphs, and every poison in every place.
A file that fails is kept, and the message names it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.autogroup.hostile import (
    bombs_graphs,  # noqa: F401  # fills the table
    poison,
)
from tests.autogroup.hostile.bombs import BOMBS, REPEATED
from tests.autogroup.hostile.cases import Case, graph_case, random_case
from tests.autogroup.hostile.seeds import write_seeds
from tests.autogroup.hostile.worker import Outcome, Worker

COUNT = int(os.environ.get("AUTOGROUP_FUZZ_FILES", "200"))
LONG = COUNT >= 2000
CHUNK = 20
SEEDS_WITH_PICKLES = (
    *("exported.pt2", "bare.pt2", "dynamic.pt2", "traced.pt", "scripted.pt", "distributed", "state.pt", "legacy.bin"),
    *("lightning.ckpt", "module.pt", "old_module.pt"),
)
SECONDS = 10.0
"""Of the processor; a process that does not answer is killed after six times as long."""
MEMORY = 200 << 20
_INTERNAL = re.compile(r"autogroup: [A-Za-z_]\w*: ")
"""How the command line says that it did not foresee an error: the name of its class stands in front."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_EXHAUSTED = re.compile(r"MemoryError|allocate memory")


def faults(outcome: Outcome, size: int, *, as_data: bool = False) -> list[str]:
    """What is wrong with how a command went on a file of that many bytes; ``as_data``: its output is CSV."""
    found = list(outcome.events)
    if outcome.code not in (0, 1, 2, 3):
        found.append(f"exit code {outcome.code}")
    if outcome.code in (2, 3) and not (outcome.err.startswith("autogroup: ") and outcome.err.count("\n") == 1):
        found.append("an error that is not one line")
    if "Traceback" in outcome.err or _INTERNAL.match(outcome.err):
        found.append("an error that was not foreseen")
    if _CONTROL.search(outcome.err) or (_CONTROL.search(outcome.out) and not as_data):
        found.append("control characters reach the terminal")
    if _EXHAUSTED.search(outcome.err):
        found.append("it ran out of memory")
    if outcome.seconds > SECONDS:
        found.append(f"{outcome.seconds:.1f} seconds")
    if outcome.memory > max(10 * size, MEMORY):
        found.append(f"{outcome.memory >> 20} MB for a file of {size >> 10} KB")
    return found


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def worker(seeds: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    good = [str(seeds[name]) for name in ("exported.pt2", "dynamic.pt2", "traced.pt", "report.json", "state.pt")]
    warmup = [["inspect", path] for path in good]
    warmup += [["inspect", path, "--format", form] for path in good[::4] for form in ("tree", "json", "csv")]
    warmup += [["explain", good[0], "conv.weight"], ["lint", good[0], "--against", "names"]]
    warmup += [
        ["graph", good[0], "-o", "-", "--format", form] for form in ("html", "dot", "mermaid", "graphml", "json")
    ]
    process = Worker(tmp_path_factory.mktemp("sandbox"), warmup, 6 * SECONDS)
    yield process
    process.stop()


@pytest.fixture
def sandbox(worker: Worker, tmp_path: Path) -> Iterator[Path]:
    """Where a test puts its files; nothing may appear beside them, nor in the folder where the commands run."""
    yield tmp_path
    assert not list(worker.folder.iterdir()), "a command left a file behind"


def check(case: Case, worker: Worker) -> Outcome:
    """Run a case and fail with its file if anything is wrong."""
    root = case.path.parent if case.path.is_file() else case.path
    before = sorted(root.rglob("*"))
    outcome = worker.run(case.argv)
    found = faults(outcome, case.size, as_data="csv" in case.argv)
    if sorted(root.rglob("*")) != before or list(worker.folder.iterdir()):
        found.append("a file was made")
    if found:
        kept = Path(tempfile.mkdtemp(prefix="autogroup_hostile_")) / "file"
        shutil.copytree(root, kept)
        pytest.fail(f"{case.title}: {'; '.join(found)}\n{' '.join(case.argv)}\n{outcome.err[:1000]}\nkept in {kept}")
    return outcome


@pytest.mark.parametrize("start", range(0, COUNT, CHUNK))
def test_random_damage(start: int, seeds: dict[str, Path], worker: Worker, sandbox: Path) -> None:
    for number in range(start, min(start + CHUNK, COUNT)):
        folder = sandbox / str(number)
        folder.mkdir()
        check(random_case(number, seeds, folder, sandbox / "canary"), worker)
    assert not (sandbox / "canary").exists()


@pytest.mark.parametrize("start", range(0, COUNT // 2, CHUNK))
def test_random_graphs(start: int, seeds: dict[str, Path], worker: Worker, sandbox: Path) -> None:
    """The form of these files is right, so that the analysis gets to see what they say."""
    read = 0
    for number in range(start, start + CHUNK):
        folder = sandbox / str(number)
        folder.mkdir()
        read += check(graph_case(number, seeds, folder), worker).code == 0
    assert read > 0, "files that are all refused test nothing of the analysis"


@pytest.mark.parametrize("name", [name for name in BOMBS if LONG or name not in REPEATED])
def test_bombs_and_lies(name: str, seeds: dict[str, Path], worker: Worker, sandbox: Path) -> None:
    path = BOMBS[name](sandbox, seeds)
    inputs = ["--input", "2x3x6x6"] if name.startswith("script: ") else []
    check(Case(name, path, ["inspect", str(path), *inputs]), worker)


HARMLESS = ("an unknown extension", "a lying protocol", "NEWOBJ_EX, of no class")
"""Traps that even ``pickle`` does not spring: they are there for the reader's own errors."""


@pytest.mark.parametrize("kind", poison.payloads(Path("canary")))
def test_the_traps_work(kind: str, sandbox: Path) -> None:
    """Else the tests below show nothing."""
    canary = sandbox / "canary"
    assert poison.springs(poison.payloads(canary)[kind], canary) != (kind in HARMLESS)


def test_what_a_command_does_is_seen(worker: Worker, sandbox: Path, seeds: dict[str, Path]) -> None:
    """With trust the trap springs, and a file of many dicts takes the memory that it takes."""
    canary, path = sandbox / "canary", sandbox / "trap.pt"
    path.write_bytes(poison.payloads(canary)["os.system, protocol 2"])
    outcome = worker.run(["inspect", str(path), "--trust"])
    assert canary.exists()
    assert any(event.startswith("os.system") for event in outcome.events)
    assert any("os.system" in fault for fault in faults(outcome, 100))
    large = worker.run(["inspect", str(BOMBS["pickle: many dicts"](sandbox, seeds))])
    assert large.memory > 50 << 20
    assert faults(large, 0) == []


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(None, "", "", 20.0, 0, ("died",)), ["died", "exit code None", "20.0 seconds"]),
        (Outcome(2, "", "autogroup: KeyError: 'x'\n", 0.1, 0, ()), ["an error that was not foreseen"]),
        (Outcome(2, "", "autogroup: a\nb\n", 0.1, 0, ()), ["an error that is not one line"]),
        (Outcome(2, "", "", 0.1, 0, ()), ["an error that is not one line"]),
        (Outcome(0, "\x1b[2J", "", 0.1, 0, ()), ["control characters reach the terminal"]),
        (Outcome(2, "", "autogroup: a.pt: is damaged (MemoryError)\n", 0.1, 0, ()), ["it ran out of memory"]),
        (Outcome(0, "", "", 0.1, 201 << 20, ()), ["201 MB for a file of 0 KB"]),
        (Outcome(1, "", "", 0.1, 0, ()), []),
    ],
)
def test_the_judge(outcome: Outcome, expected: list[str]) -> None:
    assert faults(outcome, 100) == expected


@pytest.mark.parametrize("name", SEEDS_WITH_PICKLES)
def test_nothing_of_a_pickle_runs(name: str, seeds: dict[str, Path], worker: Worker, sandbox: Path) -> None:
    """In every member of every format that holds one; all payloads in each in the long profile, else a few."""
    canary = sandbox / "canary"
    payloads = list(poison.payloads(canary).items())
    used = 0
    for source in sorted(file for file in seeds[name].parent.rglob("*") if file.is_file()):
        content = source.read_bytes()
        for place in range(len(list(poison.poisoned(content, b"")))):
            for _ in range(len(payloads) if LONG else 1):
                used += 1
                kind, payload = payloads[used % len(payloads)]
                where, changed = list(poison.poisoned(content, payload))[place]
                copy = sandbox / str(used)
                shutil.copytree(seeds[name].parent, copy)
                (copy / source.relative_to(seeds[name].parent)).write_bytes(changed)
                path = copy / name
                check(Case(f"{kind} in {name}: {where}", path, ["inspect", str(path)]), worker)
                assert not canary.exists()
    assert used > 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "I64", "BOOL", "F8_E4M3", "X", ""]) | json_values,
        "shape": st.lists(st.integers(-1, 1 << 70), max_size=4) | json_values,
        "data_offsets": st.lists(st.integers(-1, 1 << 70), min_size=2, max_size=2) | json_values,
        "more": json_values,
    },
)


@given(header=st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), entries | json_values, max_size=4))
@pytest.mark.usefixtures("sandbox")
def test_headers_of_any_form(header: dict[str, Any], worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("header") / "made.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    check(Case(f"header {header}", path, ["inspect", str(path)]), worker)


@given(kind=st.sampled_from(["schema", "weight_map", "model_type"]), value=json_values, rest=json_values)
def test_documents_of_any_form(kind: str, value: Any, rest: Any, worker: Worker, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("document") / "made.json"
    path.write_text(json.dumps({kind: value, "parameters": rest, "symmetries": rest, "capture": rest}))
    check(Case(f"document {kind}: {value} {rest}", path, ["inspect", str(path)]), worker)
