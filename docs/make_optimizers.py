"""Write ``optimizers/*.md`` beside this file from the docstrings of the package, and the list in the README.

    python -m docs.make_optimizers

Docstrings are Google style with a little reStructuredText: ``code``, `reference`, :math:`x` and ``.. math::`` blocks.
Pages are GitHub's Markdown. Its math comes in ```math blocks and between $` and `$, inside which nothing else is
Markdown.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from types import FunctionType
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import optimizers
from optimizers import evbmf, functional, registry
from optimizers._base import BlockOptimizer
from optimizers.wrappers._base import Wrapper

FOLDER = Path(__file__).with_name("optimizers")
README = Path(__file__).parents[1] / "README.md"
MARKERS = "<!-- optimizers:start -->\n", "<!-- optimizers:end -->\n"
WRITTEN = "Written by `python -m docs.make_optimizers` from the docstrings; do not edit.\n"

PUBLIC: Mapping[str, Any] = {name: getattr(optimizers, name) for name in optimizers.__all__}
CLASSES: Mapping[str, type] = {name: x for name, x in PUBLIC.items() if inspect.isclass(x)}
_FUNCTIONAL = {
    name: x
    for name, x in vars(functional).items()
    if inspect.isfunction(x) and x.__module__ == functional.__name__ and not name.startswith("_")
}
FUNCTIONS: Mapping[str, Any] = {
    **_FUNCTIONAL,
    "evbmf": evbmf.evbmf,
    "Factorization": evbmf.Factorization,
    **{name: x for name, x in PUBLIC.items() if name not in CLASSES},
    "OptimizerInfo": registry.OptimizerInfo,
}
"""What is not an optimizer, a wrapper or a schedule: all on one page."""

Resolve = Callable[[str], str]
"""From the name in a reference to what its link points to."""


def pages() -> dict[Path, str]:
    """Return file → text for everything that is written."""
    found = {FOLDER / f"{name}.md": class_page(name, cls) for name, cls in CLASSES.items()}
    found[FOLDER / "functions.md"] = functions_page()
    found[FOLDER / "index.md"] = index_page()
    before, rest = README.read_text(encoding="utf-8").split(MARKERS[0])
    found[README] = before + MARKERS[0] + readme_tables() + MARKERS[1] + rest.split(MARKERS[1])[1]
    return found


# --- pages ------------------------------------------------------------------------------------------------------------


def class_page(name: str, cls: type) -> str:
    """Return the page of an optimizer, a wrapper or a schedule."""
    methods = own_methods(cls)
    resolve = resolver(FOLDER, own=methods)
    summary, body = described(cls)
    parts = [
        f"# {name}\n",
        WRITTEN,
        f"{inline(summary, resolve)}\n",
        signature(cls, name),
        *sections(body, cls, resolve),
    ]
    if methods:
        parts.append("## Methods\n")
    for method, function in methods.items():
        parts += entry(method, function, resolve)
    return "\n".join(parts)


def functions_page() -> str:
    """Return the page of all functions."""
    resolve = resolver(FOLDER, own=FUNCTIONS)
    head = "Of `optimizers.functional`, of `optimizers.evbmf`, and what `optimizers` has besides classes.\n"
    parts = ["# Functions\n", WRITTEN, head]
    for name, function in FUNCTIONS.items():
        parts += entry(name, function, resolve)
    return "\n".join(parts)


def entry(name: str, function: Any, resolve: Resolve) -> Iterator[str]:
    """Yield what a page says of one function or method."""
    summary, body = described(function)
    yield f"### {name}\n\n{inline(summary, resolve)}\n"
    yield signature(function, name)
    yield from sections(body, function, resolve, title="**{}**\n")


def index_page() -> str:
    """Return the overview."""
    resolve = resolver(FOLDER)
    parts = ["# Optimizers\n", WRITTEN, "[What is tested of each](properties.md) · [Functions](functions.md)\n"]
    parts.append("| optimizer | | paper | state | `channel_dims` | needs |\n|---|---|---|---|---|---|")
    for name, cls in classes(BlockOptimizer).items():
        info = registry.get_supported_optimizers(name)[name.lower()]
        needs = "`backward(create_graph=True)`" if info.needs_create_graph else "closure" if info.needs_closure else ""
        cells = [link(name, resolve), cell(info.summary, resolve), paper(cls), state(cls), "✓" * info.uses_channel_dims]
        parts.append(row(*cells, needs))
    parts.append(
        "\nThe state is in bytes per entry of a float32 parameter, with default options. *Blocks*: and a number or two "
        "per\nblock of the partition. *Matrices*: and matrices per axis. With `channel_dims`, groups can say what the "
        "blocks are.\n"
    )
    parts.append("| wrapper | | paper | needs |\n|---|---|---|---|")
    for name, cls in classes(Wrapper).items():
        needs = "closure" if getattr(cls, "needs_closure", False) else ""
        parts.append(row(link(name, resolve), cell(described(cls)[0], resolve), paper(cls), needs))
    parts.append("\n| schedule | | paper |\n|---|---|---|")
    for name, cls in classes(LRScheduler).items():
        parts.append(row(link(name, resolve), cell(described(cls)[0], resolve), paper(cls)))
    return "\n".join(parts) + "\n"


def readme_tables() -> str:
    """Return the same list for the README: name, a few words, paper."""
    resolve = resolver(README.parent)
    parts: list[str] = []
    for kind, base in (("optimizer", BlockOptimizer), ("wrapper", Wrapper), ("schedule", LRScheduler)):
        parts.append(f"| {kind} | | paper |\n|---|---|---|")
        for name, cls in classes(base).items():
            parts.append(row(link(name, resolve), cell(described(cls)[0], resolve), paper(cls)))
        parts.append("")
    return "\n".join(parts)


def classes(base: type) -> dict[str, type]:
    """Return the public subclasses of ``base``, by name without regard to case."""
    found = {name: cls for name, cls in CLASSES.items() if issubclass(cls, base)}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def link(name: str, resolve: Resolve) -> str:
    """Return a link to the page of a class."""
    return f"[{name}]({resolve(name)})"


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def cell(text: str, resolve: Resolve) -> str:
    """Return a line of a docstring for a table, where a bar would end the cell."""
    return inline(text, resolve).removesuffix(".").replace("|", r"\vert ")


def paper(cls: type) -> str:
    """Return a link to the first paper that the docstring names as its source."""
    source = (inspect.getdoc(cls) or "").partition("Source:")[2]
    found = re.search(ARXIV, source)
    return f"[{found[1]}](https://arxiv.org/abs/{found[1]})" if found else ""


def state(cls: type[BlockOptimizer]) -> str:
    """Return the size of the state of an optimizer, as the overview says it."""
    info = registry.get_supported_optimizers(cls.__name__)[cls.__name__.lower()]
    shapes = [cls.slots[name].shape for name in info.slots]
    rest = ["blocks"] * ("block" in shapes) + ["matrices"] * any(callable(shape) for shape in shapes)
    return " + ".join([str(info.bytes_per_element)] * (info.bytes_per_element > 0 or not rest) + rest)


# --- docstrings -------------------------------------------------------------------------------------------------------


def described(thing: Any) -> tuple[str, list[str]]:
    """Return the first line of a docstring, and the lines after it."""
    summary, *body = (inspect.getdoc(thing) or "").splitlines()
    return summary, body


def own_methods(cls: type) -> dict[str, Any]:
    """Return the public methods that a class adds to those of its base classes; of `step`, the class's own."""
    bases = (BlockOptimizer, Optimizer, LRScheduler, Wrapper)
    known = {name for base in bases for name in (*dir(base), *getattr(base, "__annotations__", {}))} - {"step"}
    found = {name: getattr(cls, name) for name, x in vars(cls).items() if isinstance(x, FunctionType | staticmethod)}
    return {name: x for name, x in found.items() if not name.startswith("_") and name not in known and x.__doc__}


def signature(thing: Any, name: str) -> str:
    """Return a Python block with the call and its defaults."""
    parameters = [x for x in inspect.signature(thing).parameters.values() if x.name != "self"]
    texts = [str(x.replace(annotation=x.empty)).replace("'", '"') for x in parameters]
    call = f"{name}({', '.join(texts)})"
    if len(call) > 100:
        call = f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + ")"
    return f"```python\n{call}\n```\n"


def sections(body: list[str], thing: Any, resolve: Resolve, title: str = "## {}\n") -> Iterator[str]:
    """Yield the parts of a docstring: text, and what is indented under a title such as ``Args:``."""
    for name, lines in split(body):
        if name:
            yield title.format({"Args": "Arguments"}.get(name, name))
        if name == "Example":
            yield example("\n".join(lines))
        elif name in ("Args", "Attributes", "Raises"):
            yield arguments(lines, thing, resolve)
        else:
            yield from text(lines, resolve)


def split(body: list[str]) -> list[tuple[str, list[str]]]:
    """Split into (title, lines); text outside of titled sections has the title ``""``."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for line in body:
        if re.fullmatch(r"[A-Z]\w+:", line):
            found.append((line[:-1], []))
        elif found[-1][0] and line and not line.startswith(" "):
            found.append(("", [line]))
        else:
            found[-1][1].append(line)
    return [(name, dedent("\n".join(lines)).strip("\n").split("\n")) for name, lines in found if any(lines)]


def arguments(lines: list[str], thing: Any, resolve: Resolve) -> str:
    """Return a list of what ``name: description`` lines say, with defaults."""
    parameters = inspect.signature(thing).parameters
    items: list[list[str]] = []
    for line in lines:
        items[-1].append(line) if line.startswith(" ") else items.append([line])
    parts: list[str] = []
    for item in items:
        name, _, description = " ".join(map(str.strip, item)).partition(": ")
        known = parameters.get(name)
        default = "" if known is None or known.default is known.empty else f" = `{known.default!r}`".replace("'", '"')
        parts.append(f"- `{name}`{default}: {inline(description, resolve)}")
    return "\n".join(parts) + "\n"


def example(source: str) -> str:
    """Return the example as a block to paste: with its imports, and with what it prints as comments."""
    lines: list[str] = []
    for part in doctest.DocTestParser().get_examples(source):
        apart = [""] * 2 * part.source.startswith("def ")
        lines += apart + part.source.splitlines() + apart + [f"# {line}" for line in part.want.splitlines()]
    code = "\n".join(line for line in lines if line != "import torch")
    return f"```python\n{imports(code)}\n\n{code}\n```\n"


def imports(code: str) -> str:
    """Return the imports that the code of a docstring needs; it may lack them because its module has them."""
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(dir(builtins))
    free = {node.id for node in names} - bound
    found: dict[str, list[str]] = {}
    for name in sorted(free):
        if name in PUBLIC or name in FUNCTIONS:
            home = "optimizers" if name in PUBLIC else FUNCTIONS[name].__module__
            found.setdefault(home, []).append(name)
    ours = [f"from {home} import {', '.join(names)}" for home, names in found.items()]
    return "\n".join(["import torch"] * ("torch" in free) + [""] * ("torch" in free and bool(ours)) + ours)


# --- from reStructuredText to Markdown --------------------------------------------------------------------------------

ARXIV = r"arXiv\s+(\d{4}\.\d{4,5})"
INLINE = re.compile(rf":math:`(?P<math>[^`]+)`|``(?P<code>[^`]+)``|`(?P<name>[\w.]+)`|{ARXIV}")


def resolver(folder: Path, own: Mapping[str, Any] | None = None) -> Resolve:
    """Return how a page in ``folder`` links to names; those in ``own`` are on the page itself."""
    base = "" if folder == FOLDER else f"{FOLDER.relative_to(folder).as_posix()}/"

    def resolve(name: str) -> str:
        name = name.rpartition(".")[2]
        if own and name in own:
            return f"#{name.lower()}"
        if name in CLASSES:
            return f"{base}{name}.md"
        if name in FUNCTIONS:
            return f"{base}functions.md#{name.lower()}"
        for owner, cls in CLASSES.items():
            if name in own_methods(cls):
                return f"{base}{owner}.md#{name.lower()}"
        raise LookupError(f"a docstring refers to `{name}`, which has no page")

    return resolve


def inline(line: str, resolve: Resolve) -> str:
    """Return one paragraph in Markdown."""

    def replace(found: re.Match[str]) -> str:
        if found["math"]:
            return f"$`{plain_math(found['math'])}`$"
        if found["code"]:
            return f"`{found['code']}`"
        if found["name"]:
            return f"[`{found['name']}`]({resolve(found['name'])})"
        return f"[arXiv {found[4]}](https://arxiv.org/abs/{found[4]})"

    return INLINE.sub(replace, line)


def plain_math(source: str) -> str:
    r"""Return an equation without ``\operatorname``, which GitHub does not allow."""
    return re.sub(r"\\operatorname\{(\w+)\}", r"\\mathrm{\1}", source)


def text(lines: list[str], resolve: Resolve) -> Iterator[str]:
    """Yield paragraphs, lists and equations."""
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines)):
        if paragraph.startswith(".. math::"):
            yield equation(dedent(paragraph.removeprefix(".. math::")).strip("\n"))
        else:
            items = re.split(r"\n(?=- )", paragraph)
            yield "\n".join(inline(" ".join(item.split()), resolve) for item in items) + "\n"


def equation(source: str) -> str:
    """Return a displayed equation; one of several aligned lines needs an environment around it."""
    source = plain_math(source)
    if "&" in source or r"\\" in source:
        source = f"\\begin{{aligned}}\n{source}\n\\end{{aligned}}"
    return f"```math\n{source}\n```\n"


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
