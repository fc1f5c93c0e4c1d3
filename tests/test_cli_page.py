"""``docs/cli.md`` and ``docs/inspect.svg`` say what the command line does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from autogroup import cli
from docs.make_cli import PAGE, PICTURE, options, page, picture, spelled, subcommands


def test_the_page_is_what_the_generator_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.make_cli"


def test_the_picture_is_what_the_generator_draws() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: python -m docs.make_cli"


def test_every_command_and_option_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = subcommands(cli.parser())
    assert len(commands) >= 6
    for name, (words, command) in commands.items():
        assert f"\n## {name}\n" in text
        assert f"[`{name}`](#{name}) | {words} |" in text
        for action in options(command):
            assert f"| `{spelled(action)}` |" in text or f"| `{spelled(action)}...` |" in text
            assert action.help, f"{name}: {spelled(action)} has no help"


def test_every_exit_code_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert listed == {0, 1, 2, 3, cli.INTERRUPTED, cli.BROKEN_PIPE}


def test_the_picture_fetches_nothing() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert not re.search(
        r"""https?:|@import|url\((?!#)|\bsrc\b|href""", text.replace('"http://www.w3.org/2000/svg"', "")
    )
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    shown = "".join(root.itertext())
    assert "autogroup\xa0inspect\xa0model.py:build" in shown
    assert "invariant" in shown
