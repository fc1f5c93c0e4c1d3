"""Is a wrong optimizer noticed? Changes one thing in one function at a time and runs the tests that should fail.

    python -m benchmarks.mutation                       all files; ``--write`` puts the table into docs/mutation.md
    python -m benchmarks.mutation --files adam_srt sam  some files
    python -m benchmarks.mutation --sample 100 --seed 1 a random part

Nothing is written to the checkout: the tests are collected once, and each mutant runs in a fork of that process in
which the code of one function is exchanged. Tests that compile, start processes or are slow are left out; so a survivor
here may still fail the whole suite.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import os
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

import pytest

from benchmarks.equivalent import EQUIVALENT
from benchmarks.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mutation.md"
# How rules are run, checked and found by name: none of it is an equation, and tests of its own are about it.
MACHINERY = {"__init__", "_base", "_check", "_compile", "_foreach", "_hyper", "_paths", "_slots", "registry"}
ELSEWHERE = {"phases", "_settle", "_whole", "placed", "gathered"}
"""What only the compiled path or sharded tensors run: their tests compile, or start processes without the mutant."""
LEFT_OUT = ("compile", "traced", "shard", "process", "fsdp", "ddp", "external")
FIRST = (
    *("test_special_values", "test_golden", "test_functions", "test_math", "test_schedules", "test_equations"),
    *("test_wrappers_alone", "test_contract"),
)
BUDGETS = (3.0, 10.0)
"""CPU seconds of tests per mutant: first a short round, then a long one for those that survive it."""
SECONDS_PER_TEST = 60
"""A test that runs longer hangs, which counts as caught."""


def files(names: Sequence[str]) -> list[Path]:
    """Return the files to change: those with these stems, or all that have equations."""
    found = sorted((ROOT / "optimizers").rglob("*.py"))
    found = [path for path in found if path.stem not in MACHINERY or path.match("wrappers/_base.py")]
    return [path for path in found if not names or path.stem in names]


def module_of(path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


# --- which tests belong to a file -----------------------------------------------------------------------------------


def dependents() -> dict[str, set[str]]:
    """Return for each module of the package which ones import it, directly or not, itself included."""
    imports: dict[str, set[str]] = {}
    for path in (ROOT / "optimizers").rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        imports[module_of(path)] = {str(node.module) for node in nodes} | names
    found = {module: {module} for module in imports}
    changed = True
    while changed:
        changed = False
        for module, used in imports.items():
            for other in found:
                if module not in found[other] and used & found[other] and not module.endswith("__init__"):
                    found[other].add(module)
                    changed = True
    return found


def modules_of(item: pytest.Item) -> set[str]:
    """Return the modules that a test is about: that of its optimizer, else all that its file takes something from."""
    given: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    cls = getattr(given.get("case"), "cls", None)
    golden = given.get("golden")
    if cls is None and isinstance(golden, dict):
        cls = getattr(importlib.import_module("optimizers"), golden["algorithm"], None)
    if isinstance(cls, type):
        return {cls.__module__}
    names = vars(item.module).values()  # type: ignore[attr-defined]
    return {value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "") for value in names}


def is_class_of(module: str, value: object) -> bool:
    """Whether a value is a class that a module defines."""
    return isinstance(value, type) and value.__module__ == module


def selection(items: Iterable[pytest.Item], module: str, users: Mapping[str, set[str]]) -> list[pytest.Item]:
    """Return the tests for a module, the quick and telling files first, and one test of each kind in turn."""
    wanted = users[module]
    names = [name for name, value in vars(importlib.import_module(module)).items() if is_class_of(module, value)]
    seen: Counter[object] = Counter()
    ranked: list[tuple[int, int, int, pytest.Item]] = []
    for item in items:
        about = modules_of(item) & wanted
        if about:
            stem = item.path.stem
            rank = next((i for i, name in enumerate(FIRST) if stem.startswith(name)), len(FIRST))
            kind = stem, getattr(item, "originalname", ""), *sorted(about)
            seen[kind] += 1
            named = any(name in item.nodeid for name in names) or modules_of(item) == {module}
            ranked.append((0 if named else 1 if module in about else 2, rank, seen[kind], item))
    return [item for *_, item in sorted(ranked, key=lambda row: row[:3])]


# --- one mutant -----------------------------------------------------------------------------------------------------


def plain(value: Any) -> FunctionType | None:
    """Return the function behind a method, property, cache or decorator."""
    value = getattr(value, "__func__", value)
    value = value.fget if isinstance(value, property) else value
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None


def code_of(source: str, file: str, function: str) -> CodeType:
    """Return the code of a function in a source text."""
    stack: list[CodeType] = [compile(source, file, "exec")]
    while stack:
        code = stack.pop()
        if code.co_qualname == function:
            return code
        stack += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise LookupError(f"{file} has no function {function}")


def apply(mutant: Mutant) -> None:
    """Exchange the code of one function in this process, and forget what it returned before."""
    module = importlib.import_module(module_of(Path(mutant.file)))
    *path, name = mutant.function.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part)
    function = plain(vars(owner)[name])
    if function is None:
        raise LookupError(f"{mutant.file} has no function {mutant.function}")
    code = code_of(mutant.source, mutant.file, mutant.function)
    if code.co_freevars == function.__code__.co_freevars:
        function.__code__ = code
    else:  # the call of super() is gone
        setattr(owner, name, FunctionType(code, function.__globals__, name, function.__defaults__))
    for loaded in [m for key, m in sys.modules.items() if key.startswith("optimizers")]:
        for value in vars(loaded).values():
            getattr(value, "cache_clear", lambda: None)()


class FirstFailure:
    """Ends the process with exit status 1 as soon as a test fails."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Look at the result of a test, its setup or its teardown, before a report is made of it."""
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
            print(f"\nfailed: {item.nodeid}: {call.excinfo.value}", flush=True)
            os._exit(1)


def run_mutant(mutant: Mutant | None, items: Sequence[pytest.Item], budget: float) -> NoReturn:
    """Run the tests on a mutant in this process, which it ends: status 0 if it survives, 1 if not, 2 if not run."""
    try:
        if mutant is not None:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            apply(mutant)
    except BaseException:
        os._exit(2)
    try:
        end = time.process_time() + budget
        for item in items:
            if not item.config.pluginmanager.has_plugin("first failure"):
                item.config.pluginmanager.register(FirstFailure(), "first failure")
            signal.alarm(SECONDS_PER_TEST)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if time.process_time() > end:
                break
    except BaseException:
        os._exit(1)
    os._exit(0)


# --- all of them ----------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What became of a mutant: ``"caught"``, ``"survived"``, or ``"equivalent"`` with the reason."""

    mutant: Mutant
    outcome: str
    reason: str = ""


class Session:
    """A pytest plugin that runs mutants in place of the tests."""

    def __init__(self, todo: Sequence[Mutant], jobs: int, budgets: Sequence[float]) -> None:
        self.todo, self.jobs, self.budgets = todo, jobs, budgets
        self.results: list[Result] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Fork once per mutant."""
        items = [item for item in session.items if usable(item)]
        users = dependents()
        chosen = {file: selection(items, module_of(Path(file)), users) for file in {m.file for m in self.todo}}
        gc.freeze()
        todo: list[Mutant] = []
        for mutant in self.todo:
            if reason := reason_of(mutant):
                self.results.append(Result(mutant, "equivalent", reason))
            else:
                todo.append(mutant)
        for budget in self.budgets:
            todo = self._round(todo, chosen, budget)
            print(f"\n{len(todo)} of {len(self.todo)} survived {budget:g} seconds", flush=True)
        for mutant in todo:
            self.results.append(Result(mutant, "survived"))
            print(f"survived: {where(mutant)}: {mutant.change}", flush=True)
        return True

    def _round(self, todo: Sequence[Mutant], chosen: Mapping[str, list[pytest.Item]], budget: float) -> list[Mutant]:
        """Run mutants, note those that are caught, and return the others."""
        running: dict[int, Mutant] = {}
        survivors: list[Mutant] = []

        def wait() -> None:
            pid, status = os.wait()
            mutant = running.pop(pid)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 2:
                raise RuntimeError(f"{where(mutant)} could not be changed: {mutant.change}")
            if status:
                self.results.append(Result(mutant, "caught"))
            else:
                survivors.append(mutant)

        for file in sorted({mutant.file for mutant in todo}):
            if os.waitpid(start(None, chosen[file], budget), 0)[1]:
                raise RuntimeError(f"a test for {file} fails without any mutant")
        for mutant in todo:
            while len(running) >= self.jobs:
                wait()
            running[start(mutant, chosen[mutant.file], budget)] = mutant
        while running:
            wait()
        return survivors


def start(mutant: Mutant | None, items: Sequence[pytest.Item], budget: float) -> int:
    """Fork, run a mutant there, and return the process."""
    pid = os.fork()
    if pid == 0:
        run_mutant(mutant, items, budget)
    return pid


def reason_of(mutant: Mutant) -> str:
    """Return why a mutant computes the same, or ""."""
    what = Path(mutant.file).stem, mutant.function, mutant.change
    return next((row[3] for row in EQUIVALENT if all(map(fnmatchcase, what, row[:3]))), "")


def usable(item: pytest.Item) -> bool:
    """Whether a test is quick and stays in its process."""
    text = item.nodeid.lower()
    return not any(word in text for word in LEFT_OUT) and not any(map(item.get_closest_marker, ("slow", "skip", "gpu")))


def where(mutant: Mutant) -> str:
    """Return where a mutant is: file, line and function."""
    return f"{Path(mutant.file).relative_to(ROOT)}:{mutant.line} {mutant.function}"


def run(
    todo: Sequence[Mutant],
    tests: Sequence[str] = ("tests/optimizers",),
    jobs: int = 1,
    budgets: Sequence[float] = BUDGETS,
) -> list[Result]:
    """Run mutants.

    Args:
        todo: the mutants.
        tests: files or folders of tests, from the root of the repository.
        jobs: processes at a time.
        budgets: CPU seconds of tests per mutant, in rounds: each runs what survived the one before.

    Returns:
        One result per mutant, in any order.

    Raises:
        RuntimeError: the tests could not be collected, or one of them fails without any mutant.
    """
    session = Session(todo, jobs, budgets)
    options = ["-q", "-s", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins=[session])
    if len(session.results) != len(todo):
        raise RuntimeError(f"the tests could not be collected: pytest ended with status {status}")
    return session.results


# --- the report -----------------------------------------------------------------------------------------------------


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of a Markdown table of the files, and of lists of the survivors and the equivalents."""
    by_file: defaultdict[str, Counter[str]] = defaultdict(Counter)
    results = sorted(results, key=lambda r: (r.mutant.file, r.mutant.line))
    for result in results:
        by_file[str(Path(result.mutant.file).relative_to(ROOT))][result.outcome] += 1
    yield "| file | mutants | caught | survived | equivalent | score |"
    yield "|---|---|---|---|---|---|"
    total: Counter[str] = Counter()
    for file, counts in by_file.items():
        yield _row(file, counts)
        total += counts
    yield _row("all", total)
    for outcome, title in (("survived", "Survivors"), ("equivalent", "Equivalent")):
        chosen = [result for result in results if result.outcome == outcome]
        yield f"\n## {title}\n"
        yield from [_line(result) for result in chosen] or ["None."]


def _row(name: str, counts: Counter[str]) -> str:
    caught, survived, same = counts["caught"], counts["survived"], counts["equivalent"]
    return f"| {name} | {caught + survived + same} | {caught} | {survived} | {same} | {score(counts):.1f} % |"


def score(counts: Counter[str]) -> float:
    """Return the percentage that was caught of those that change anything."""
    meant = counts["caught"] + counts["survived"]
    return 100.0 * counts["caught"] / meant if meant else 100.0


def _line(result: Result) -> str:
    reason = f": {result.reason}" if result.reason else ""
    return f"- {where(result.mutant)}: `{result.mutant.change}`{reason}"


HEAD = """# Mutation run

Written by `python -m benchmarks.mutation --write`.

Each mutant is one change to one function of an optimizer, a wrapper, a schedule or an equation they share: a sign
flipped, `*` for `/`, `<` for `>`, an underscore dropped, beta1 for beta2, another constant, a condition negated, a
statement dropped, two arguments or slots swapped, a keyword left out. It counts as caught when a test of
`tests/optimizers` fails, or hangs, within {budget:.0f} CPU seconds of tests chosen for the file; tests that compile or
start processes are not among them, and functions that only they run are left as they are. The score leaves out mutants
that compute the same.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return 0 if at least 95 % were caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="*", default=[], help="stems of files, such as adam_srt; default: all")
    parser.add_argument("--tests", nargs="*", default=["tests/optimizers"], help="which tests may notice")
    parser.add_argument("--sample", type=int, help="this many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=1)
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS, help="CPU seconds of tests, by round")
    parser.add_argument("--write", action="store_true", help="write docs/mutation.md")
    given = parser.parse_args(arguments)
    todo = [mutant for path in files(given.files) for mutant in mutants(str(path), path.read_text(encoding="utf-8"))]
    todo = [mutant for mutant in todo if mutant.function.split(".")[-1] not in ELSEWHERE]
    if given.sample is not None:
        todo = random.Random(given.seed).sample(todo, min(given.sample, len(todo)))
    results = run(todo, given.tests, given.jobs, given.budgets)
    lines = list(table(results))
    print("\n" + "\n".join(lines))
    if given.write:
        PAGE.write_text(HEAD.format(budget=given.budgets[-1]) + "\n".join(lines) + "\n", encoding="utf-8")
    return 0 if score(Counter(result.outcome for result in results)) >= 95 else 1


if __name__ == "__main__":
    sys.exit(main())
