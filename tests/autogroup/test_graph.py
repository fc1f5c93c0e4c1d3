"""Pictures of a report: what the graph holds, that every format can be read back, and how files are written."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pytest
import torch

import autogroup
from autogroup import cli
from autogroup.errors import AutogroupError
from autogroup.partition import Partition
from autogroup.render.graph import FORMATS, draw, format_of, save_graph
from autogroup.render.graph.charts import COLOURS
from autogroup.render.graph.html import MEANINGS, page_data
from autogroup.render.graph.layout import MOST_ROWS, lay_out
from autogroup.render.graph.text import printable, shareable
from autogroup.report import VERDICTS, ParameterReport, Relation, Report, Split, Step
from autogroup.symmetry import Member, Symmetry

HOSTILE = (
    '"><script>document.title = "owned"</script>',
    "</script><script>document.title = 'owned'</script>",
    "two\nlines\tand\ra \\n backslash",
    "quote\" apostrophe' `tick` #35; &lt; &amp; <b>",
    "right\u202eto left, zero\x00byte, \x1b[31m, line\u2028end",
    "größe 大きさ 🙂",
    "lone \ud800 surrogate",
    "]]> --> <!-- */ {{data}} ${x} %% end",
    "",
    "x" * 300,
)


def make_report() -> Report:
    """A joint pair, two norms in one module, a tied and frozen weight, a rescaling."""
    path = (
        Step("aten.conv2d.default", "stem.conv", "/srv/someone/nets.py:12"),
        Step("aten.batch_norm.default", "stem.norm", "nets.py:13", "is normalized by batch_norm"),
    )
    parameters = (
        ParameterReport(
            "stem.conv.weight",
            (8, 3, 3, 3),
            "invariant",
            "is normalized by batch_norm in stem.norm",
            Partition.from_dims((8, 3, 3, 3), (0,)),
            role="conv",
            norms=("stem.norm",),
            path=path,
        ),
        ParameterReport("stem.norm.weight", (8,), "variant", "scales the output", role="norm_scale", path=path[1:]),
        ParameterReport("mlp.up.weight", (16, 8), "joint", "only together", role="linear", partners=("mlp.up.bias",)),
        ParameterReport("mlp.up.bias", (16,), "joint", "only together", role="bias", partners=("mlp.up.weight",)),
        ParameterReport(
            "table", (5, 8), "unknown", "no rule", role="embedding", other_roles=("head",), aliases=("head.weight",)
        ),
        ParameterReport(
            "mlp.fused", (12, 8), "unused", "never read", splits=(Split(0, ((0, 4),), "sdpa.query", "mlp", 2),)
        ),
    )
    one = torch.zeros(1, 1, dtype=torch.int64)
    pair = tuple(Member(p.name, Fraction(1), p.shape, one.view((1,) * len(p.shape))) for p in parameters[2:4])
    rows = Member("mlp.up.weight", Fraction(1), (16, 8), torch.arange(16).view(16, 1))
    columns = Member("table", Fraction(-1, 2), (5, 8), torch.arange(8).view(1, 8))
    return Report(
        {p.name: p for p in parameters},
        (
            Relation("stem.conv.weight", "stem.norm", "aten.batch_norm.default", "nets.py:13"),
            Relation("mlp.up.weight", "mlp", "aten.rms_norm.default", "nets.py:20"),
            Relation("mlp.up.bias", "mlp", "aten.layer_norm.default", "/srv/someone/nets.py:21"),
        ),
        capture={"method": "make_fx", "mode": "train"},
        symmetries=(Symmetry("joint scale", pair, 1), Symmetry("rescale", (rows, columns), 8)),
    )


def hostile_report() -> Report:
    names = [f"block.{name}.{name}" if "." not in name else name for name in HOSTILE]
    parameters = [
        ParameterReport(n, (4,), VERDICTS[i % 7], f"reason {n}", path=(Step(n, n, n, n),)) for i, n in enumerate(names)
    ]
    relations = tuple(Relation(n, n, f"aten.{n}.default", n) for n in names)
    return Report({p.name: p for p in parameters}, relations, capture={"method": HOSTILE[0]})


def wide_report(count: int) -> Report:
    parameters = [ParameterReport(f"layers.{i // 8}.part.{i % 8}", (4, 4), "variant", "") for i in range(count)]
    return Report({p.name: p for p in parameters})


# --- the graph ----------------------------------------------------------------------------------------------------


def test_every_parameter_module_norm_and_symmetry_is_a_node() -> None:
    graph = autogroup.to_networkx(make_report())
    kinds = nx.get_node_attributes(graph, "kind")
    assert [k for k, kind in kinds.items() if kind == "parameter"] == [
        "parameter:table",
        "parameter:stem.conv.weight",
        "parameter:stem.norm.weight",
        "parameter:mlp.fused",
        "parameter:mlp.up.weight",
        "parameter:mlp.up.bias",
    ]
    modules = {k for k, kind in kinds.items() if kind == "module"}
    assert modules == {"model", "module:stem", "module:stem.conv", "module:stem.norm", "module:mlp", "module:mlp.up"}
    assert {k for k, kind in kinds.items() if kind == "norm"} == {"norm:stem.norm", "norm:mlp", "norm 2:mlp"}
    assert {k for k, kind in kinds.items() if kind == "symmetry"} == {"symmetry:0", "symmetry:1"}


def test_the_attributes_of_a_node_are_those_of_the_report() -> None:
    nodes = autogroup.to_networkx(make_report()).nodes
    conv = nodes["parameter:stem.conv.weight"]
    assert (conv["label"], conv["shape"], conv["elements"]) == ("weight", "8x3x3x3", 216)
    assert (conv["verdict"], conv["partition"], conv["role"]) == ("invariant", "o i h w -> o", "conv")
    assert nodes["parameter:table"]["role"] == "embedding and head"
    assert nodes["parameter:table"]["aliases"] == "head.weight"
    assert nodes["parameter:mlp.up.bias"]["partners"] == "mlp.up.weight"
    assert "sdpa.query" in nodes["parameter:mlp.fused"]["splits"]
    assert nodes["norm:stem.norm"]["operator"] == "aten.batch_norm.default"


def test_the_edges_are_containment_relations_and_symmetries() -> None:
    graph = autogroup.to_networkx(make_report())
    edges = {(a, b): edge for a, b, edge in graph.edges(data=True)}
    assert edges["module:stem", "module:stem.conv"]["kind"] == "contains"
    assert edges["module:mlp", "norm 2:mlp"]["kind"] == "contains"
    absorbed = edges["parameter:stem.conv.weight", "norm:stem.norm"]
    assert absorbed == {"kind": "absorbed_by", "operator": "aten.batch_norm.default", "line": "nets.py:13"}
    assert edges["parameter:table", "symmetry:1"] == {"kind": "moved_by", "power": "-1/2", "part": "[:, i]"}
    tree = [(a, b) for (a, b), edge in edges.items() if edge["kind"] == "contains"]
    assert nx.is_arborescence(nx.DiGraph(tree))


def test_a_norm_in_a_module_without_parameters_is_in_the_tree() -> None:
    weight = ParameterReport("conv.weight", (2, 2), "invariant", "", norms=("body.norm",))
    report = Report({"conv.weight": weight}, (Relation("conv.weight", "body.norm", "aten.batch_norm.default", ""),))
    graph = autogroup.to_networkx(report)
    assert list(graph.predecessors("norm:body.norm")) == ["module:body.norm", "parameter:conv.weight"]


# --- the formats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_report, hostile_report, lambda: Report({})], ids=["plain", "hostile", "empty"])
def test_json_reads_back_as_the_same_graph(make: object) -> None:
    report = make()
    back = nx.node_link_graph(json.loads(draw(report, "json")), edges="edges")
    assert nx.utils.graphs_equal(back, autogroup.to_networkx(report))


@pytest.mark.parametrize("make", [make_report, hostile_report, lambda: Report({})], ids=["plain", "hostile", "empty"])
def test_graphml_reads_back_with_its_names_spelled(make: object) -> None:
    report = make()
    text = draw(report, "graphml")
    assert ElementTree.fromstring(text.encode()).tag.endswith("graphml")
    back = nx.read_graphml(io.BytesIO(text.encode()), force_multigraph=True)
    graph = autogroup.to_networkx(report)
    assert list(back) == [printable(key) for key in graph]
    assert back.number_of_edges() == graph.number_of_edges()
    for key, node in graph.nodes(data=True):
        assert back.nodes[printable(key)] == {k: printable(v) if isinstance(v, str) else v for k, v in node.items()}


DOT_STRING = r'"(?:[^"\\\n]|\\.)*"'
DOT_LINE = re.compile(
    rf"\s*(?://.*|digraph model \{{|subgraph cluster_\d+ \{{|\}}|\w+=(?:\w+|{DOT_STRING})|"
    rf"(?:n\d+|n\d+ -> n\d+|node|edge|graph) \[(?:\w+=(?:\w+|{DOT_STRING}) ?)+\])"
)
MERMAID_LABEL = r'"(?:[\w ./()-]|#\d+;|<br/>)+"'
MERMAID_LINE = re.compile(
    rf"%% autogroup graph|flowchart LR|\s*(?:subgraph m\d+ \[{MERMAID_LABEL}\]|end|n\d+\[{MERMAID_LABEL}\]:::[a-z]+|"
    rf"n\d+\(\[{MERMAID_LABEL}\]\)|n\d+ -->\|{MERMAID_LABEL}\| n\d+|classDef [a-z]+ fill:[#\w,:]+)"
)


@pytest.mark.parametrize("format, line", [("dot", DOT_LINE), ("mermaid", MERMAID_LINE)])
@pytest.mark.parametrize("make", [make_report, hostile_report, lambda: Report({})], ids=["plain", "hostile", "empty"])
def test_charts_consist_of_known_statements_only(make: object, format: str, line: re.Pattern[str]) -> None:
    text = draw(make(), format)
    assert [row for row in text.splitlines() if not line.fullmatch(row)] == []
    opened = len(re.findall(r"\{$|^\s*subgraph", text, re.MULTILINE)) if format == "mermaid" else text.count("{\n")
    assert opened == len(re.findall(r"^\s*(?:\}|end)$", text, re.MULTILINE))


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("make", [make_report, hostile_report], ids=["plain", "hostile"])
def test_graphviz_accepts_dot_and_shows_the_names(make: object) -> None:
    report = make()
    done = subprocess.run(
        ["dot", "-Tsvg"], input=draw(report, "dot").encode(), capture_output=True, check=True, timeout=60
    )
    assert done.stderr.decode() == ""
    texts = ElementTree.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")
    shown = {(text.text or "").replace("\u00a0", " ") for text in texts}
    wanted = {printable(name.rpartition(".")[2]) for name in report.parameters}
    assert wanted - {""} <= shown


def test_every_verdict_has_a_colour_and_a_meaning() -> None:
    assert set(COLOURS) == set(MEANINGS) == set(VERDICTS)


def test_different_names_stay_different_when_spelled() -> None:
    names = ["a\nb", "a\\nb", "a\\\nb", "a\x00", "a\\x00", "\ud800", "\\ud800"]
    assert len({printable(name) for name in names}) == len(names)
    assert all(printable(name).isprintable() for name in names)


def test_private_paths_are_left_out_of_every_format() -> None:
    for format in FORMATS:
        text = draw(make_report(), format, title="/srv/someone/models/net.pt2")
        assert "someone" not in text
        assert format != "html" or "net.pt2" in text
    assert shareable("hf:/srv/someone/folder") == "hf:folder"


# --- the page -----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page, its inline texts and its content policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.policy = ""
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        self.open = True
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def inside(self, wanted: str) -> list[str]:
        """What stands in the elements of one kind."""
        return [text for (tag, _), text in zip(self.tags, self.texts, strict=True) if tag == wanted]


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    text = draw(make_report(), "html")
    page = Page(text)
    assert not [attributes for _, attributes in page.tags if {"src", "href", "style"} & attributes.keys()]
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML|insertAdjacentHTML|eval\(", text)
    rules = dict(rule.split(maxsplit=1) for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    for directive, content in (("style-src", page.inside("style")[0]), ("script-src", page.inside("script")[1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[directive] == f"'sha256-{digest}'"


def test_hostile_names_cannot_leave_the_data() -> None:
    plain, hostile = Page(draw(make_report(), "html", "net")), Page(draw(hostile_report(), "html", HOSTILE[0]))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    data = hostile.inside("script")[0]
    assert not set(data) & set("<>&")
    assert [p["name"] for p in json.loads(data)["parameters"]] == [printable(n) for n in hostile_report().parameters]


def test_equal_paths_are_written_once() -> None:
    path = (Step("aten.mul.Tensor", "m", "nets.py:1", "a note that is long enough to count"),)
    parameters = [ParameterReport(f"p{i}", (1,), "variant", "", path=path) for i in range(50)]
    assert draw(Report({p.name: p for p in parameters}), "html").count("a note that is long") == 1


def test_siblings_that_look_alike_are_folded() -> None:
    (layers,) = page_data(wide_report(96), "net")["tree"]["children"]
    (folded,) = layers["children"]
    assert (folded["label"], folded["alike"], len(folded["children"])) == ("0-11", 12, 12)


@pytest.mark.parametrize("count", [0, 1, 40, 500])
def test_the_layout_has_every_parameter_once_and_no_overlap(count: int) -> None:
    report = wide_report(count)
    layout = lay_out(report)
    assert [name for card in layout.cards for name in card.parameters] == list(report.parameters)
    boxes = [(card.x, card.y, card.x + layout.card_width, card.y + card.height) for card in layout.cards]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= layout.width
        assert 0 <= top < bottom <= layout.height
        for left2, top2, right2, bottom2 in boxes[:i]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top


def test_a_norm_stands_beside_what_it_absorbs_and_none_covers_another() -> None:
    layout = lay_out(make_report())
    (card,) = layout.cards
    rows = {norm[0] + norm[1]: row for norm, row in card.norms.items()}
    assert rows["stem.normaten.batch_norm.default"] == card.parameters.index("stem.conv.weight")
    assert all(abs(a - b) >= 1 for a in rows.values() for b in rows.values() if a is not b)


def test_a_module_with_very_many_parameters_is_cut() -> None:
    names = [f"list.{i}" for i in range(10 * MOST_ROWS)]
    layout = lay_out(Report({n: ParameterReport(n, (1,), "variant", "") for n in names}))
    assert len(layout.cards) == 5
    assert [name for card in layout.cards for name in card.parameters] == names


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".html", ".dot", ".mmd", ".graphml", ".json"])
def test_a_picture_replaces_an_earlier_one(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    save_graph(wide_report(900), file)
    before = file.stat().st_size
    save_graph(wide_report(3), file)
    assert 0 < file.stat().st_size < before
    assert list(tmp_path.iterdir()) == [file]


def test_other_files_are_not_replaced_without_force(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"hidden": 12}')
    with pytest.raises(AutogroupError, match=r"config\.json: exists and is no picture .*--force"):
        save_graph(wide_report(1), file)
    assert file.read_text() == '{"hidden": 12}'
    save_graph(wide_report(1), file, force=True)
    assert json.loads(file.read_text())["directed"] is True


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.dot"
    save_graph(wide_report(1), file)
    before = file.read_text()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(AutogroupError, match=r"net\.dot: cannot be written: No space left"):
        save_graph(wide_report(9), file)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.dot").symlink_to("real.dot")
    save_graph(wide_report(1), tmp_path / "link.dot")
    assert (tmp_path / "link.dot").is_symlink()
    assert (tmp_path / "real.dot").read_text().startswith("// autogroup graph")


def test_unknown_formats_are_named() -> None:
    with pytest.raises(AutogroupError, match=r"net\.pdf: the suffix names no picture format; known are \.html"):
        format_of("net.pdf")
    with pytest.raises(AutogroupError, match="no picture format 'pdf'"):
        draw(Report({}), "pdf")


# --- the command --------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = cli.main(["graph", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\ndef net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (torch.zeros(2, 3, 8, 8),)\n"
    )
    return f"{tmp_path / 'nets.py'}:net"


def test_the_command_writes_the_format_of_the_suffix(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, source, "-o", tmp_path / "net.html")
    assert (status, out) == (0, "")
    assert err.endswith("net.html\n")
    text = (tmp_path / "net.html").read_text()
    assert "<title>nets.py:net · autogroup</title>" in text
    assert str(tmp_path) not in text
    assert run(capsys, source, "-o", tmp_path / "net.txt", "--format", "dot")[0] == 0
    assert (tmp_path / "net.txt").read_text().startswith("// autogroup graph\ndigraph model {")


def test_the_command_writes_to_standard_output(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, source, "-o", "-", "--format", "json")
    assert (status, err) == (0, "")
    absorbed = [edge for edge in json.loads(out)["edges"] if edge["kind"] == "absorbed_by"]
    assert [(edge["source"], edge["target"]) for edge in absorbed] == [("parameter:0.weight", "norm:1")]


@pytest.mark.parametrize(
    "options, message",
    [
        (["-o", "-"], "-o - needs --format"),
        (["-o", "net.pdf"], "names no picture format"),
        ([], "the following arguments are required: -o/--output"),
        (["-o", "no/such/folder/net.dot"], "cannot be written: No such file or directory"),
    ],
)
def test_wrong_use_takes_one_line(
    source: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, source, *options)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_choices_of_the_command_are_the_formats() -> None:
    assert cli.PICTURES == FORMATS
