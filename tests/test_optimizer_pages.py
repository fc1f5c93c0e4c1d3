"""The pages in docs/optimizers and the list in the README are what their generator writes, and they read well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import optimizers
from docs import make_optimizers

PAGES = make_optimizers.pages()
FOLDER = make_optimizers.FOLDER
ROOT = FOLDER.parents[1]
EACH = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
MATH = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_MATH = re.compile(r"\$`(.*?)`\$")
PYTHON = re.compile(r"^## Example\n\n```python\n(.*?)^```$|^\*\*Example\*\*\n\n```python\n(.*?)^```$", re.M | re.S)


@EACH
def test_the_page_is_up_to_date(path: Path) -> None:
    assert path.is_file(), "run: python -m docs.make_optimizers"
    assert path.read_text(encoding="utf-8") == PAGES[path], "run: python -m docs.make_optimizers"


def test_every_public_name_has_a_page_and_every_page_a_name() -> None:
    functions = PAGES[FOLDER / "functions.md"]
    missing = [
        name for name in optimizers.__all__ if FOLDER / f"{name}.md" not in PAGES and f"### {name}\n" not in functions
    ]
    assert missing == []
    stale = [path.name for path in FOLDER.glob("*.md") if path not in PAGES and path.name != "properties.md"]
    assert stale == [], "no public name belongs to these pages: delete them"


@pytest.mark.parametrize("path", [FOLDER / "index.md", make_optimizers.README], ids=lambda path: path.name)
def test_the_lists_are_complete(path: Path) -> None:
    text = PAGES[path]
    for name, cls in make_optimizers.CLASSES.items():
        line = next((line for line in text.splitlines() if line.startswith(f"| [{name}](")), "")
        assert f"{name}.md)" in line
        assert make_optimizers.paper(cls), f"the docstring of {name} names no arXiv paper under Source:"
        assert make_optimizers.paper(cls) in line


@pytest.mark.parametrize("name", make_optimizers.CLASSES)
def test_a_page_has_all_its_parts(name: str) -> None:
    text = PAGES[FOLDER / f"{name}.md"]
    parts = ["## Arguments", "## Source", "## Example", "https://arxiv.org/abs/"]
    is_schedule = name in make_optimizers.classes(make_optimizers.LRScheduler)
    parts += [] if is_schedule else ["```math"]
    assert [part for part in parts if part not in text] == []
    source = text.partition("## Source\n")[2].partition("\n## ")[0]
    after = re.split(r"arxiv\.org/abs/[\d.]+\)", source, maxsplit=1)[1]
    assert is_schedule or len(after.split()) > 4, "say under Source: how it differs from what others call by its name"


@EACH
def test_no_markup_of_docstrings_is_left(path: Path) -> None:
    text = re.sub(r"^```\w+$.*?^```$", "", PAGES[path], flags=re.M | re.S)
    assert re.findall(r":\w+:`|\.\. \w+::|(?<!`)``(?!`)|^ {4}|>>>", text, flags=re.M) == []
    assert text.count("$`") == text.count("`$") == len(INLINE_MATH.findall(text))


@EACH
def test_equations_are_in_githubs_dialect(path: Path) -> None:
    for source in [*MATH.findall(PAGES[path]), *INLINE_MATH.findall(PAGES[path])]:
        bare = re.sub(r"\\[{}]", "", source)
        assert bare.count("{") == bare.count("}"), source
        assert source.count(r"\begin{") == source.count(r"\end{"), source
        assert source.count(r"\left") - source.count(r"\leftarrow") == source.count(r"\right"), source
        for macro in ("operatorname", "mbox", "phantom", "DeclareMathOperator", "newcommand"):  # refused by GitHub
            assert f"\\{macro}" not in source
        outside = re.sub(r"\\begin\{(\w+)\}.*\\end\{\1\}", "", source, flags=re.S)
        assert "&" not in outside, f"alignment without an environment: {source}"
        assert r"\\" not in outside, f"lines without an environment: {source}"
        assert "\n\n" not in source, f"an empty line: {source}"


@EACH
def test_links_resolve(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[path]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        assert other.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", PAGES.get(other) or other.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def blocks() -> list[Any]:
    found = [(path, match) for path, text in PAGES.items() for match in PYTHON.finditer(text) if path.parent == FOLDER]
    assert len(found) >= len(make_optimizers.CLASSES)
    return [pytest.param(match[1] or match[2], id=f"{path.stem}-{match.start()}") for path, match in found]


@pytest.mark.parametrize("code", blocks())
def test_examples_can_be_pasted(code: str) -> None:
    """With their imports; that they print what they say is checked where they come from, in the docstrings."""
    namespace: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(code, "example", "exec"), namespace)
    assert len(namespace) > 2, "the example did nothing"


def test_markdown_from_docstrings() -> None:
    def resolve(name: str) -> str:
        return f"{name}.md"

    line = "With :math:`a_b` = ``c_d``, like `Other` (arXiv 1234.56789)."
    want = "With $`a_b`$ = `c_d`, like [`Other`](Other.md) ([arXiv 1234.56789](https://arxiv.org/abs/1234.56789))."
    assert make_optimizers.inline(line, resolve) == want
    lines = ["One", "line.", "", "- first", "  item", "- second", "", ".. math::", "    a &= b \\\\", "    c &= d"]
    equation = "```math\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}\n```\n"
    assert list(make_optimizers.text(lines, resolve)) == ["One line.\n", "- first item\n- second\n", equation]
    assert make_optimizers.equation(r"\operatorname{std}(g)") == "```math\n\\mathrm{std}(g)\n```\n"
    body = ["Text.", "", "Args:", "    a: one", "        two.", "", "More.", "", "State:", "    None."]
    assert make_optimizers.split(body) == [
        ("", ["Text."]),
        ("Args", ["a: one", "    two."]),
        ("", ["More."]),
        ("State", ["None."]),
    ]


def test_a_reference_to_nothing_is_an_error() -> None:
    with pytest.raises(LookupError, match="refers to `Nonsense`, which has no page"):
        make_optimizers.inline("See `Nonsense`.", make_optimizers.resolver(FOLDER))
