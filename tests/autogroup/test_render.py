"""What is printed: golden files for the layout, arithmetic for the numbers.

AUTOGROUP_OVERWRITE_GOLDEN=1 rewrites the golden files; read the difference before keeping it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from autogroup import render
from autogroup.errors import AutogroupError
from autogroup.partition import OUTSIDE, Partition
from autogroup.render.console import STYLES, make_console
from autogroup.report import VERDICTS, ParameterReport, Relation, Report, Step

GOLDEN = Path(__file__).parent / "golden"
LONG = "encoder.layers.0.self_attention_block.in_projection_of_queries_keys_and_values.weight"


def make_report() -> Report:
    """One parameter per verdict, with everything that can be said of one said once."""
    dims = Partition.from_dims
    qkv = torch.arange(24).div(8, rounding_mode="floor").view(24, 1).clone()
    qkv[16:] = OUTSIDE
    conv_path = (
        Step("aten.conv2d.default", "layer1.0.conv1", "model.py:12", "one block per output channel"),
        Step("aten.batch_norm.default", "layer1.0.bn1", "model.py:13", "divides every channel by its deviation"),
    )
    gelu_path = (
        Step("aten.linear.default", "mlp.fc", "model.py:20"),
        Step("aten.gelu.default", "", "", "GELU is not homogeneous"),
    )
    parameters = (
        ParameterReport(
            "layer1.0.conv1.weight",
            (64, 3, 7, 7),
            "invariant",
            "batch norm in layer1.0.bn1 removes its scale",
            dims((64, 3, 7, 7), (0,)),
            role="conv",
            norms=("layer1.0.bn1",),
            path=conv_path,
        ),
        ParameterReport("layer1.0.conv1.bias", (64,), "dead", "batch norm in layer1.0.bn1 subtracts it", role="bias"),
        ParameterReport("layer1.0.bn1.weight", (64,), "variant", "scales the output of the norm", role="norm_scale"),
        ParameterReport("layer1.0.bn1.bias", (64,), "variant", "scales the output of the norm", role="norm_shift"),
        ParameterReport(
            LONG,
            (24, 16),
            "partial",
            "only queries and keys are normalized",
            Partition((24, 16), qkv),
            role="linear",
            norms=("encoder.layers.0.query_norm", "encoder.layers.0.key_norm"),
        ),
        ParameterReport(
            "norm_by_hand.weight",
            (32, 8),
            "invariant",
            "divided by its own length",
            dims((32, 8), (0,), groups=4),
            norms=("norm_by_hand",),
            eps=True,
        ),
        ParameterReport("mlp.fc.weight", (16, 4), "joint", "LayerNorm needs both", partners=("mlp.fc.bias",)),
        ParameterReport(
            "mlp.gate", (16,), "variant", "GELU is not homogeneous", trainable=False, path=gelu_path, role="other"
        ),
        ParameterReport(
            "head.weight", (10, 4), "unknown", "aten.foo.default has no rule", aliases=("embedding.weight",)
        ),
        ParameterReport("temperature", (), "unused", "the forward never reads it"),
    )
    return Report(
        {p.name: p for p in parameters},
        (Relation("layer1.0.conv1.weight", "layer1.0.bn1", "aten.batch_norm.default", "model.py:13"),),
        {"aten.foo.default": 3},
        {"method": "make_fx", "mode": "train", "notes": ["dropout is on"]},
    )


def many_layers() -> Report:
    """Twelve equal layers and one that differs."""
    parameters = [ParameterReport(f"layers.{i}.fc.weight", (4, 4), "variant", "") for i in range(12)]
    parameters.append(ParameterReport("layers.12.fc.weight", (8, 4), "variant", ""))
    return Report({p.name: p for p in parameters})


def drawn(draw: object, report: Report, *args: str, width: int = 80, **options: object) -> str:
    """What a function prints on a console of fixed width, without the spaces that fill the lines."""
    file = io.StringIO()
    draw(report, *args, console=Console(file=file, width=width, highlight=False, markup=False), **options)
    text = file.getvalue()
    assert max(map(len, text.splitlines()), default=0) <= width
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("AUTOGROUP_OVERWRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def squeezed(text: str) -> str:
    """Without white space, to look for content whatever line it was folded onto."""
    return re.sub(r"\s", "", text)


CASES = {
    "table_80.txt": lambda: drawn(render.print_table, make_report()),
    "table_160.txt": lambda: drawn(render.print_table, make_report(), width=160),
    "table_only.txt": lambda: drawn(render.print_table, make_report(), only=["dead", "unused"]),
    "tree.txt": lambda: drawn(render.print_tree, make_report(), width=100),
    "tree_alike.txt": lambda: drawn(render.print_tree, many_layers()),
    "explain_invariant.txt": lambda: drawn(render.print_explanation, make_report(), "layer1.0.conv1.weight"),
    "explain_variant.txt": lambda: drawn(render.print_explanation, make_report(), "mlp.gate"),
    "explain_alias.txt": lambda: drawn(render.print_explanation, make_report(), "embedding.weight"),
    "report.csv": lambda: render.to_csv(make_report()) + "\n",
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    check_golden(name, CASES[name]())


@pytest.mark.parametrize("width", [40, 60, 80, 119])
def test_nothing_is_cut_in_the_list(width: int) -> None:
    report = make_report()
    text = squeezed(drawn(render.print_table, report, width=width))
    for p in report.parameters.values():
        assert "x".join(map(str, p.shape)) in text
        assert p.verdict + "*" * p.eps in text
        for piece in (p.name, *p.norms, *p.aliases, *p.partners, p.reason):
            assert squeezed(piece) in text


@pytest.mark.parametrize("width", [120, 121, 140, 200])
def test_nothing_is_cut_in_the_table(width: int) -> None:
    """Read the columns back by their position and join what was folded."""
    report = make_report()
    lines = drawn(render.print_table, report, width=width).split("\n\n")[0].splitlines()
    heads = ["parameter", "shape", "partition", "norm", "verdict", "reason"]
    starts = [lines[0].index(f" {h}") + 1 if h != "parameter" else 0 for h in heads]
    cells: dict[str, list[str]] = {h: [] for h in heads}
    for line in lines[1:]:
        for head, start, stop in zip(heads, starts, [*starts[1:], None], strict=True):
            cells[head].append(line[start:stop].strip())
    joined = {head: squeezed("".join(parts)) for head, parts in cells.items()}
    everything = report.parameters.values()
    assert joined["parameter"] == squeezed("".join(p.name for p in everything))
    assert joined["verdict"] == "".join(p.verdict + "*" * p.eps for p in everything)
    assert joined["norm"] == squeezed("".join(",".join(p.norms) or "-" for p in everything))
    assert all(squeezed(p.reason) in joined["reason"] for p in everything)
    assert joined["partition"] == squeezed("".join(str(p.partition) if p.partition else "-" for p in everything))


def test_the_counts_of_the_summary_add_up() -> None:
    report = make_report()
    text = " ".join(drawn(render.print_table, report).split())
    total = re.search(r"(\d+) parameters, ([\d,]+) elements: (.*?) captured", text)
    assert total is not None
    parts = re.findall(r"(\d+) (\w+) \(([\d,]+)\)", total[3])
    assert {verdict: int(count) for count, verdict, _ in parts} == report.counts()
    assert sum(int(count) for count, _, _ in parts) == int(total[1]) == len(report.parameters)
    elements = sum(int(size.replace(",", "")) for _, _, size in parts)
    expected = sum(torch.empty(p.shape, device="meta").numel() for p in report.parameters.values())
    assert elements == int(total[2].replace(",", "")) == expected


def test_the_counts_of_the_tree_add_up() -> None:
    lines = [line for line in drawn(render.print_tree, make_report(), width=100).splitlines() if "parameter" in line]
    root = re.search(r"(\d+) parameters: (.*)", lines[0])
    assert root is not None
    assert sum(int(n) for n in re.findall(r"(\d+) \w+", root[2])) == int(root[1]) == len(make_report().parameters)


def test_the_tree_shows_equal_layers_once_with_their_number() -> None:
    text = drawn(render.print_tree, many_layers())
    assert "0-11  12 alike, each 1 parameter" in text
    assert "12  1 parameter" in text
    assert text.count("weight") == 2


def test_only_shows_and_counts() -> None:
    text = drawn(render.print_table, make_report(), only=["dead"])
    assert "layer1.0.conv1.bias" in text
    assert "layer1.0.conv1.weight" not in text
    assert "shown: 1 of 10 parameters" in text
    assert "10 parameters," in text


def test_only_without_a_match_still_prints_the_summary() -> None:
    text = drawn(render.print_table, many_layers(), only=["dead"])
    assert text.startswith("13 parameters")
    assert "shown: 0 of 13 parameters" in text


def test_an_empty_report_prints() -> None:
    assert drawn(render.print_table, Report({})) == "0 parameters, 0 elements\n"
    assert "0 parameters" in drawn(render.print_tree, Report({}))


def test_no_colour_codes_in_a_file_and_colours_on_a_terminal() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    render.print_table(make_report(), file=plain)
    assert "\x1b" not in plain.getvalue()
    terminal = Console(file=coloured, width=80, force_terminal=True, color_system="standard", no_color=False)
    render.print_table(make_report(), console=terminal)
    assert "\x1b[32minvariant" in coloured.getvalue()
    assert set(STYLES) == set(VERDICTS)


def test_square_brackets_in_a_reason_are_text() -> None:
    report = Report({"w": ParameterReport("w", (1,), "variant", "sliced [red] as x[0] :smile:")})
    assert "sliced [red] as x[0] :smile:" in drawn(render.print_table, report)
    file = io.StringIO()
    render.print_table(report, file=file)
    assert "[red]" in file.getvalue()


def test_the_width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(_: int) -> os.terminal_size:
        raise OSError("not a terminal")

    monkeypatch.setattr(os, "get_terminal_size", no_terminal)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert make_console(io.StringIO()).width == 120
    monkeypatch.setenv("COLUMNS", "66")
    assert make_console(io.StringIO()).width == 66


def test_json_reads_back_without_loss() -> None:
    report = make_report()
    assert Report.from_dict(json.loads(render.to_json(report))) == report
    with_proof = json.loads(render.to_json(report, certificate={"ok": True}))
    assert with_proof["certificate"] == {"ok": True}
    assert Report.from_dict(with_proof) == report


def test_csv_reads_back() -> None:
    report = make_report()
    rows = list(csv.DictReader(io.StringIO(render.to_csv(report))))
    assert [row["name"] for row in rows] == list(report.parameters)
    assert sum(int(row["elements"]) for row in rows) == 9408 + 64 * 3 + 24 * 16 + 32 * 8 + 64 + 16 + 40 + 1
    by_name = {row["name"]: row for row in rows}
    assert by_name["norm_by_hand.weight"]["channel_dims"] == "(0)"
    assert by_name["norm_by_hand.weight"]["channel_groups"] == "4"
    assert by_name[LONG]["rows"] == "0:16"
    assert by_name["temperature"]["channel_dims"] == ""


def test_filtering_keeps_only_the_relations_of_what_is_left() -> None:
    report = make_report()
    assert render.filtered(report, None) is report
    assert render.filtered(report, ["invariant"]).relations == report.relations
    dead = render.filtered(report, ["dead"])
    assert list(dead.parameters) == ["layer1.0.conv1.bias"]
    assert dead.relations == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layer1.0.conv.weight", "close matches: layer1.0.conv1.weight"),
        ("gate", "close matches: mlp.gate"),
        ("zzz", "it has 11 parameters"),
        ("", "it has 11 parameters"),
    ],
)
def test_an_unknown_parameter_lists_close_ones(name: str, expected: str) -> None:
    with pytest.raises(AutogroupError, match="the model has no parameter") as caught:
        render.find_parameter(make_report(), name)
    assert expected in str(caught.value)
    assert repr(name) in str(caught.value)
