"""The command line: what it prints, on which stream, and with which exit code."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from autogroup import analyze, cli, load, report
from autogroup.commands import source
from autogroup.report import Report
from tests.autogroup.wrong_files import wrong_file

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))

def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))

def with_inputs():
    return net(), (torch.zeros(2, 3, 8, 8),)

def dead_bias():
    norm = nn.BatchNorm2d(8)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 1)), (torch.zeros(2, 3, 8, 8),)

def tokens():
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))

def fails_in_forward():
    class Bad(nn.Linear):
        def forward(self, x):
            raise ZeroDivisionError("on purpose")
    return Bad(3, 3), (torch.zeros(2, 3),)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(CODE)
    return tmp_path / "nets.py"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    torch.export.save(torch.export.export(model, (torch.zeros(2, 3, 8, 8),)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    code = cli.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def start(*argv: object, **options: object) -> subprocess.Popen[str]:
    """Run the command as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "autogroup", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def one_line(err: str) -> str:
    assert err.startswith("autogroup")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# --- inspect ----------------------------------------------------------------------------------------------------


def test_inspect_prints_a_table(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "inspect", f"{code}:net", "--input", "2x3x8x8")
    assert (status, err) == (0, "")
    assert "nets.py:net" in out.splitlines()[0]
    row = next(line for line in out.splitlines() if line.startswith("0.weight"))
    assert "o i h w -> o" in row
    assert "invariant" in row
    assert "5 parameters, 268 elements" in " ".join(out.split())


def test_inputs_that_come_with_the_model_are_used(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "inspect", f"{code}:with_inputs", "--format", "json")
    assert status == 0
    assert Report.from_dict(json.loads(out)).parameters["0.weight"].channel_dims == (0,)


def test_integer_inputs_index_tables(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "inspect", f"{code}:tokens", "--input", "2x7:int64", "--format", "csv", "--verify")
    assert status == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(out))}
    assert list(rows) == ["0.weight", "1.weight", "1.bias", "2.weight", "2.bias"]


def test_formats_agree(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {
        form: run(capsys, "inspect", f"{code}:with_inputs", "--format", form)[1]
        for form in ("table", "tree", "json", "csv")
    }
    found = Report.from_dict(json.loads(outputs["json"]))
    rows = list(csv.DictReader(io.StringIO(outputs["csv"])))
    assert {row["name"]: row["verdict"] for row in rows} == {p.name: p.verdict for p in found.parameters.values()}
    for form in ("table", "tree"):
        for verdict, count in found.counts().items():
            assert f"{count} {verdict}" in outputs[form]


def test_only_may_be_repeated(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{code}:with_inputs"
    everything = Report.from_dict(json.loads(run(capsys, "inspect", source, "--format", "json")[1]))
    some = run(capsys, "inspect", source, "--format", "json", "--only", "invariant", "--only", "dead")[1]
    kept = Report.from_dict(json.loads(some)).parameters
    assert list(kept) == [p.name for p in everything.only(["invariant", "dead"])]
    table = run(capsys, "inspect", source, "--only", "invariant")[1]
    assert "0.weight" in table
    assert "3.weight" not in table


def test_mode_reaches_the_analysis(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "inspect", f"{code}:with_inputs", "--mode", "eval", "--format", "json")[1]
    found = Report.from_dict(json.loads(out))
    assert found.capture["mode"] == "eval"
    assert found.parameters["0.weight"].verdict != "invariant"


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_verify_proves(code: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    status, out, err = run(capsys, "inspect", f"{code}:with_inputs", "--verify", "--format", form)
    assert status == 0
    if form == "json":
        assert json.loads(out)["certificate"]["counts"]["proved"] > 0
        assert err == ""
    else:
        assert " 0 refuted" in (err if form == "csv" else out)


def test_verify_without_inputs_guesses_the_same_ones(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "inspect", f"{code}:net", "--verify")
    assert status == 0
    assert " 0 refuted" in out


def test_a_refuted_claim_is_exit_code_1(
    code: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import autogroup.api

    true_analyze = autogroup.api.analyze

    def lying_analyze(*args: object, **kwargs: object) -> Report:
        data = true_analyze(*args, **kwargs).to_dict()
        for parameter in data["parameters"]:
            parameter["verdict"] = "invariant"
            parameter["partition"] = {"shape": parameter["shape"], "channel_dims": [0], "channel_groups": None}
        return Report.from_dict(data)

    monkeypatch.setattr(autogroup.api, "analyze", lying_analyze)
    status, out, _ = run(capsys, "inspect", f"{code}:with_inputs", "--verify")
    assert status == 1
    assert "refuted  3.weight" in out
    assert run(capsys, "inspect", f"{code}:with_inputs")[0] == 0


def test_an_exported_program(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "inspect", exported, "--format", "json")
    assert (status, err) == (0, "")
    found = Report.from_dict(json.loads(out))
    assert found.parameters["0.weight"].channel_dims == (0,)
    assert found.capture["method"] == "export"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--input", "2x3x8x8"], "drop --input"),
        (["--mode", "eval"], "exported in mode train"),
        (["--verify"], "--verify runs the model"),
    ],
)
def test_what_an_exported_program_cannot_do(
    exported: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    status, _, err = run(capsys, "inspect", exported, *options)
    assert status == 2
    assert expected in one_line(err)


# --- several sources --------------------------------------------------------------------------------------------


def test_several_sources_are_shown_one_below_the_other(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [f"{code}:with_inputs", f"{code}:dead_bias"]
    status, out, err = run(capsys, "inspect", *sources)
    assert (status, err) == (0, "")
    apart = [run(capsys, "inspect", source)[1] for source in sources]
    assert out == "\n".join(apart)


def test_one_that_fails_does_not_stop_the_others(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "pickled.pt")
    sources = [tmp_path / "missing.pt2", f"{code}:with_inputs", tmp_path / "pickled.pt", f"{code}:fails_in_forward"]
    status, out, err = run(capsys, "inspect", *sources)
    assert status == 3
    assert [line.split()[0] for line in err.splitlines()] == ["autogroup:"] * 3
    assert "0.weight" in out
    assert run(capsys, "inspect", sources[1], sources[0])[0] == 2
    found = json.loads(run(capsys, "inspect", *sources, "--format", "json")[1])
    assert [(item["source"], "error" in item) for item in found] == [
        (str(source), i != 1) for i, source in enumerate(sources)
    ]


def test_several_sources_as_data(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.zeros(4, 3)}, tmp_path / "weights.pt")
    sources = [f"{code}:with_inputs", tmp_path / "weights.pt", f"{code}:dead_bias"]
    status, out, _ = run(capsys, "inspect", *sources, "--format", "json", "--verify")
    first, weights, last = json.loads(out)
    assert status == 2
    assert "--arch" in weights["error"]
    assert first["certificate"]["ok"]
    assert first["certificate"]["counts"] != last["certificate"]["counts"]
    assert Report.from_dict(last).parameters["0.bias"].verdict == "dead"
    status, out, err = run(capsys, "inspect", *sources, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0
    assert [row["source"] for row in rows] == [str(sources[0])] * 5 + [str(sources[1])] + [str(sources[2])] * 6
    assert (rows[5]["name"], rows[5]["elements"], rows[5]["verdict"]) == ("w", "12", "")
    assert "has names and shapes but no graph" in one_line_about(err, "weights.pt")


def one_line_about(err: str, name: str) -> str:
    (line,) = (line for line in err.splitlines() if name in line)
    return line


def test_a_list_of_json_is_whole_when_interrupted(
    code: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    true_load = load.load

    def interrupted(source: str, **options: object) -> load.Loaded:
        if source == "later":
            raise KeyboardInterrupt
        return true_load(source, **options)

    monkeypatch.setattr(load, "load", interrupted)
    status, out, err = run(capsys, "inspect", f"{code}:with_inputs", "later", "--format", "json")
    assert (status, err) == (130, "")
    assert [item["source"] for item in json.loads(out)] == [f"{code}:with_inputs"]


# --- every kind of source with every command --------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Kind of SOURCE -> the arguments that name the same small model in this way."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "nets.py").write_text(CODE)
    built = f"{folder / 'nets.py'}:dead_bias"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    images = torch.zeros(2, 3, 8, 8)
    torch.export.save(torch.export.export(model, (images,)), folder / "net.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(model, images, check_trace=False), folder / "traced.pt")
    torch.save(model, folder / "pickled.pt")
    torch.save(model.state_dict(), folder / "weights.pt")
    analyze(model, images).save(folder / "report.json")
    return {
        "code": [built],
        "exported program": [str(folder / "net.pt2")],
        "TorchScript": [str(folder / "traced.pt")],
        "pickled module": [str(folder / "pickled.pt"), "--trust", "--input", "2x3x8x8"],
        "tensors with --arch": [str(folder / "weights.pt"), "--arch", built],
        "report": [str(folder / "report.json")],
    }


KINDS = ("code", "exported program", "TorchScript", "pickled module", "tensors with --arch", "report")
WITHOUT_MODEL = ("exported program", "report")


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_reads_every_kind(
    kind: str, kinds: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named, *options = kinds[kind]
    status, out, _ = run(capsys, "inspect", named, *options, "--format", "json")
    verdicts = {p.name: p.verdict for p in Report.from_dict(json.loads(out)).parameters.values()}
    expected = dict.fromkeys(("1.weight", "1.bias", "3.weight", "3.bias"), "variant")
    assert (status, verdicts) == (0, {"0.weight": "invariant", "0.bias": "dead", **expected})
    for form in ("table", "tree", "csv"):
        status, out, _ = run(capsys, "inspect", named, *options, "--format", form)
        assert (status, "invariant" in out) == (0, True)
    status, out, _ = run(capsys, "explain", named, "0.bias", *options)
    assert (status, "here the loss stops depending on it" in out) == (0, True)
    status, out, _ = run(capsys, "graph", named, *options, "-o", "-", "--format", "mermaid")
    assert (status, out.startswith("%% autogroup")) == (0, True)
    status, out, _ = run(capsys, "lint", named, *options)
    assert (status, "dead-bias" in out) == (1, True)
    status, out, _ = run(capsys, "lint", named, *options, "--lock", tmp_path / "net.lock")
    assert (status, (tmp_path / "net.lock").exists()) == (0, True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_a_model_can_be_verified(
    kind: str, kinds: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "inspect", *kinds[kind], "--verify")
    if kind in WITHOUT_MODEL:
        assert (status, out) == (2, "")
        assert "name the code instead, as in file.py:callable" in one_line(err)
    else:
        assert status == 0
        assert " 0 refuted" in out


@pytest.mark.parametrize("command", ["inspect --verify", "explain 0.bias", "graph -o - --format dot", "lint"])
def test_tensors_alone_have_no_graph(
    command: str, kinds: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = kinds["tensors with --arch"][0]
    name, *rest = command.split()
    status, out, err = run(capsys, name, weights, *rest)
    assert (status, out) == (2, "")
    assert "give the architecture with --arch" in one_line(err)


# --- explain ----------------------------------------------------------------------------------------------------


def test_explain_shows_the_path(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "explain", f"{code}:with_inputs", "0.weight")
    assert (status, err) == (0, "")
    operators = [line.split()[1] for line in out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert operators[0].startswith("aten.conv")
    assert operators[-1].startswith("aten.batch_norm")
    assert "here the scale is removed" in out


def test_explain_of_an_unknown_parameter(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "explain", f"{code}:with_inputs", "0.wieght")
    assert (status, out) == (2, "")
    assert "close matches: 0.weight" in one_line(err)


def test_explain_takes_several_parameters_and_patterns(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{code}:with_inputs"
    status, out, err = run(capsys, "explain", source, "3.*", "0.weight", "3.bias")
    assert (status, err) == (0, "")
    apart = [run(capsys, "explain", source, name)[1] for name in ("0.weight", "3.weight", "3.bias")]
    assert out == "\n".join(apart)
    status, out, err = run(capsys, "explain", source, "0.weight", "9.*")
    assert (status, out) == (2, "")
    assert "no parameter '9.*'" in one_line(err)


# --- lint -------------------------------------------------------------------------------------------------------


def test_lint_without_findings(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "lint", f"{code}:with_inputs")
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"{code}:with_inputs", "no findings"]


def test_lint_finds_a_dead_bias(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "lint", f"{code}:dead_bias")
    assert (status, err) == (1, "")
    assert "dead-bias: build the layer with bias=False" in out
    assert out.splitlines()[-1] == "1 finding"
    status, out, _ = run(capsys, "lint", f"{code}:dead_bias", "--format", "json")
    found = json.loads(out)
    assert status == 1
    assert [(f["parameter"], f["code"]) for f in found["findings"]] == [("0.bias", "dead-bias")]
    assert found["lock"] is None


@pytest.mark.parametrize(("rule", "status"), [("timm", 0), ("hf", 1), ("names", 1)])
def test_lint_against_a_rule(code: Path, capsys: pytest.CaptureFixture[str], rule: str, status: int) -> None:
    found, out, err = run(capsys, "lint", f"{code}:dead_bias", "--against", rule)
    assert (found, err) == (status, "")
    assert ("no findings" in out) == (status == 0)
    assert "dead-bias" not in out


def test_the_rules_of_the_help_are_those_of_the_tests() -> None:
    assert set(cli.RULES) == {"timm", "hf", "names"}


def test_an_exported_program_has_no_classes_to_lint_by(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "lint", exported)[0] == 0
    assert run(capsys, "lint", exported, "--against", "timm")[0] == 0
    status, out, err = run(capsys, "lint", exported, "--against", "hf")
    assert (status, out) == (2, "")
    assert "--against hf looks at the classes" in one_line(err)


def test_a_lock_file_is_written_once_then_checked(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "net.lock"
    status, out, _ = run(capsys, "lint", f"{code}:with_inputs", "--lock", lock)
    assert (status, out.splitlines()[-1]) == (0, f"{lock}: written; commit it")
    agreed = lock.read_text()
    assert run(capsys, "lint", f"{code}:with_inputs", "--lock", lock)[0] == 0
    status, out, err = run(capsys, "lint", f"{code}:dead_bias", "--lock", lock)
    assert (status, err) == (1, "")
    assert "+0.bias  8 bias dead" in out.splitlines()
    assert lock.read_text() == agreed
    status, out, _ = run(capsys, "lint", f"{code}:dead_bias", "--lock", lock, "--format", "json")
    found = json.loads(out)
    assert (status, found["findings"], found["lock"]["status"]) == (1, None, "differs")
    assert ("0.bias", None) in {(change["name"], change["was"]) for change in found["lock"]["changes"]}


def test_a_lock_file_is_replaced_only_when_asked(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "net.lock"
    run(capsys, "lint", f"{code}:with_inputs", "--lock", lock)
    status, out, _ = run(capsys, "lint", f"{code}:dead_bias", "--lock", lock, "--update-lock")
    assert (status, "+0.bias  8 bias dead" in out) == (0, True)
    assert run(capsys, "lint", f"{code}:dead_bias", "--lock", lock)[0] == 0


@pytest.mark.parametrize("options", [[], ["--update-lock"]])
def test_a_file_that_is_no_lock_file_stays(
    code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (tmp_path / "notes.json").write_text("{}")
    status, out, err = run(capsys, "lint", f"{code}:with_inputs", "--lock", tmp_path / "notes.json", *options)
    assert (status, out) == (2, "")
    assert "no lock file of autogroup" in one_line(err)
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_a_lock_and_a_rule_are_both_checked(code: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{code}:dead_bias"
    status, out, _ = run(capsys, "lint", source, "--lock", tmp_path / "net.lock", "--against", "hf")
    assert (status, "decayed" in out, "written" in out) == (1, True, True)


# --- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text", "zip of something", "truncated"])
@pytest.mark.parametrize("command", ["inspect", "explain", "lint"])
def test_a_wrong_file_is_exit_code_2(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, command, wrong_file(kind, tmp_path), *(["w"] if command == "explain" else []))
    assert (status, out) == (2, "")
    assert "wrong.pt2" in one_line(err)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["inspect"], "SOURCE"),
        (["inspect", "x.pt2", "--input", "2xx3"], "2xx3"),
        (["inspect", "x.pt2", "--input", "2x3:float33"], "float33"),
        (["inspect", "x.pt2", "--only", "sideways"], "sideways"),
        (["inspect", "x.pt2", "--format", "xml"], "xml"),
        (["explain", "x.pt2"], "PARAMETER"),
        (["lint", "x.pt2", "--against", "rumours"], "rumours"),
        (["lint", "net.py:build", "--update-lock"], "--update-lock needs --lock"),
        (["dance"], "dance"),
        (["scan"], "PATTERN"),
        (["scan", "x.pt2", "--jobs", "0"], "'0' is no whole number above zero"),
        (["scan", "x.pt2", "--timeout", "inf"], "'inf' is no number above zero"),
        (["scan", "x.pt2", "--retry"], "--retry needs -o FILE"),
    ],
)
def test_bad_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str], argv: list[str], expected: str) -> None:
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert expected in one_line(err)


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert "inspect" in err


def test_a_model_that_fails_is_exit_code_2(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "inspect", f"{code}:fails_in_forward")
    assert status == 2
    assert "ZeroDivisionError: on purpose" in one_line(err)


def test_inputs_of_the_wrong_size_are_exit_code_2(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "inspect", f"{code}:net", "--input", "2x5x8x8")
    assert status == 2
    one_line(err)


def test_an_unforeseen_error_is_one_line_unless_asked(
    code: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault\nof this package")

    monkeypatch.setattr(load, "load", broken)
    monkeypatch.delenv("AUTOGROUP_TRACEBACK", raising=False)
    status, _, err = run(capsys, "inspect", f"{code}:net")
    assert status == 2
    assert "RuntimeError: a fault of this package" in one_line(err)
    monkeypatch.setenv("AUTOGROUP_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="a fault"):
        cli.main(["inspect", f"{code}:net"])


def test_a_pickled_module_is_exit_code_3_without_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), tmp_path / "model.pt")
    status, out, err = run(capsys, "inspect", tmp_path / "model.pt", "--input", "2x3")
    assert (status, out) == (3, "")
    assert "torch.nn.modules.linear.Linear" in one_line(err)
    status, out, _ = run(capsys, "inspect", tmp_path / "model.pt", "--input", "2x3", "--trust")
    assert status == 0
    assert "0.weight" in out


# --- the process ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["inspect", "--help"], 0),
        (["scan", "--help"], 0),
        (["inspect", "missing.pt2"], 2),
        (["explain", "missing", "w"], 2),
        (["lint", "model.py"], 2),
        (["inspect", "x.pt2", "--input", "2xx3"], 2),
        (["graph", ""], 2),
    ],
)
def test_torch_is_imported_only_when_it_is_needed(argv: list[str], status: int) -> None:
    program = (
        "import sys\n"
        "from autogroup.cli import main\n"
        f"assert main({argv!r}) == {status}\n"
        "heavy = {'torch', 'rich', 'networkx', 'numpy', 'multiprocessing'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert len(sys.modules) < 250\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--version")
    assert status == 0
    assert out.startswith("autogroup ")


def test_the_process_returns_the_exit_code(tmp_path: Path) -> None:
    process = start("inspect", tmp_path / "missing.pt2")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    one_line(err)


def test_a_broken_pipe_ends_quietly(code: Path) -> None:
    process = start("inspect", f"{code}:with_inputs", "--format", "json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything is written, as `| head -0` would
    assert process.wait(timeout=60) == cli.BROKEN_PIPE
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_broken_pipe_under_a_table_ends_quietly(code: Path) -> None:
    process = start("inspect", f"{code}:with_inputs")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == cli.BROKEN_PIPE
    assert process.stderr.read() == ""
    process.stderr.close()


def test_an_interrupt_ends_quietly(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\n"
        f"def build():\n    Path({str(tmp_path / 'started')!r}).touch()\n    time.sleep(60)\n"
    )
    process = start("inspect", f"{tmp_path / 'slow.py'}:build")
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_narrow_encodings_do_not_fail(code: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "autogroup", "inspect", f"{code}:with_inputs", "--format", "tree"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"weight" in done.stdout


def test_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    status, out, err = run(capsys, "demo")
    assert (status, err) == (0, "")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    losses = [float(line.split()[-1]) for line in out.splitlines() if line.strip().startswith("step")]
    assert losses[-1] < losses[0] / 2
    cosines = {
        line.split()[0]: (float(line.split()[1]), "not invariant" in line)
        for line in out.splitlines()
        if line.startswith("   ") and "invariant" in line
    }
    assert set(cosines) == {"stem.weight", "conv1.weight", "conv2.weight", "conv3.weight", "head.weight"}
    assert all(cosine < 1e-3 for cosine, variant in cosines.values() if not variant)
    assert cosines["head.weight"][1]
    assert cosines["head.weight"][0] > 0.05


# --- small parts ------------------------------------------------------------------------------------------------


def test_the_verdicts_of_the_help_are_those_of_the_report() -> None:
    assert cli.VERDICTS == report.VERDICTS


@pytest.mark.parametrize("dtype", cli.DTYPES)
def test_example_inputs_have_the_asked_shape_and_dtype(dtype: str) -> None:
    before = torch.get_rng_state()
    made = source.example(*cli.parse_input(f"3x4:{dtype}"), "cpu")
    assert (tuple(made.shape), made.dtype) == ((3, 4), getattr(torch, dtype))
    if not (made.is_floating_point() or made.is_complex()):
        assert set(made.int().flatten().tolist()) == {0, 1}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("text", ["", "x", "2x", "x2", "2,3", "2x3:", "-1x3", "2x3:float32:x", "2x3:nope"])
def test_malformed_inputs(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        cli.parse_input(text)
