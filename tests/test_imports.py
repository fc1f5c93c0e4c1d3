"""The shape of the two packages: who may import whom, how long a file may be, what must be documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("autogroup", "optimizers")
MAX_LINES = 400

# A file may import only what stands below it; the files of a folder may import each other.
LAYERS = """
    __main__ cli commands demo load readers render lint lock scan api recipes certificate infer rules registry algebra
    report groups symmetry partition tensors capture errors progress
""".split()
FOLDERS = {"commands", "readers", "render", "lint", "certificate", "infer", "rules", "algebra", "capture"}

# The demo shows the two packages together; it is the one file that may know both.
MAY_IMPORT_OPTIMIZERS = {"autogroup/demo.py"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".html", ".cfg", ".css", ".js", ".typed", ""}
SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "site", "node_modules", "venv"}


def sources(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported_modules(path: Path) -> tuple[str, ...]:
    """Dotted names of every module a file imports, at the top level or inside a function.

    ``from package import name`` counts as ``package.name`` when that is a module.
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            base = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (base / f"{alias.name}.py").exists() or (base / alias.name).is_dir()
                found.append(f"{node.module}.{alias.name}" if is_module else node.module)
    return tuple(found)


def layer_of(module: str) -> str:
    """``autogroup.rules.view`` is of layer ``rules``, ``autogroup`` itself of ``__init__``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def all_sources() -> list[Path]:
    return [path for package in PACKAGES for path in sources(package)]


def test_the_packages_are_found() -> None:
    assert all(sources(package) for package in PACKAGES)


@pytest.mark.parametrize("path", sources("autogroup"), ids=relative)
def test_imports_point_down(path: Path) -> None:
    own = layer_of(relative(path).removesuffix(".py").replace("/", "."))
    if own == "__init__":
        pytest.skip("the package re-exports the public names of every layer")
    assert own in LAYERS, f"{relative(path)} belongs to no layer: add it to LAYERS in {Path(__file__).name}"
    for module in imported_modules(path):
        if module.split(".")[0] != "autogroup":
            continue
        target = layer_of(module)
        assert target in LAYERS, f"{relative(path)} imports {module}, which belongs to no layer"
        below = LAYERS.index(target) > LAYERS.index(own)
        assert below or (target == own and own in FOLDERS), f"{relative(path)} imports {module}, which is not below it"


@pytest.mark.parametrize("path", all_sources(), ids=relative)
def test_the_packages_do_not_know_each_other(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    other = {"autogroup": "optimizers", "optimizers": "autogroup"}[own]
    if relative(path) in MAY_IMPORT_OPTIMIZERS:
        pytest.skip("the one allowed meeting point")
    assert not [module for module in imported_modules(path) if module.split(".")[0] == other]


@pytest.mark.parametrize("path", all_sources(), ids=relative)
def test_only_render_imports_rich(path: Path) -> None:
    uses_rich = any(module.split(".")[0] == "rich" for module in imported_modules(path))
    assert not uses_rich or relative(path).startswith("autogroup/render/"), f"{relative(path)} imports rich"


@pytest.mark.parametrize(
    "path", [*sources("autogroup/algebra"), *sources("autogroup/rules"), *sources("autogroup/infer")], ids=relative
)
def test_the_analysis_knows_no_module_classes(path: Path) -> None:
    code = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if ">>>" not in line)
    assert not re.search(r"\bnn\b(?!\.functional)", code), "rules read operators and shapes, never module classes"


@pytest.mark.parametrize("path", all_sources(), ids=relative)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines < MAX_LINES, f"{relative(path)} has {lines} lines: split it by idea"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert len(names) == len(set(names)), f"{package}.__all__ names something twice"
    assert module.__doc__
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__ and value.__doc__.strip(), f"{package}.{name} has no docstring of its own"


def test_typed_markers_exist() -> None:
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").exists()] == []


def test_no_path_of_one_machine_in_the_tree() -> None:
    pattern = re.compile(r"(?<![\w.:/<>-])/(?:work|opt|home|root|Users|mnt|private)/\w")
    found: list[str] = []
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        hidden = any(part.startswith(".") and part != ".ci" for part in inside.parts[:-1])
        if hidden or SKIPPED_FOLDERS & set(inside.parts) or not path.is_file() or path.suffix not in TEXT_SUFFIXES:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{inside}:{number}: {line.strip()[:80]}")
    assert found == []
