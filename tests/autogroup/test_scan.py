"""``autogroup scan``, and how the command line shows progress."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from autogroup import ParameterReport, Partition, Report, analyze, certify, cli
from autogroup.commands import scan
from autogroup.commands.patterns import expand
from autogroup.errors import InputError, LoadError
from autogroup.partition import OUTSIDE
from autogroup.readers import named
from autogroup.render.rows import print_rows, rows_to_csv, rows_to_json
from autogroup.scan import Row, RowFile

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn

def net():
    print("from the model")
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)), torch.zeros(2, 3, 8, 8)

def hangs():
    (Path(__file__).parent / "pid").write_text(str(os.getpid()))
    time.sleep(600)

def segfaults():
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves():
    os._exit(7)

def fails():
    raise ZeroDivisionError("on purpose")

def threads():
    return nn.Linear(torch.get_num_threads(), 1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def command(*argv: object) -> list[str]:
    return [sys.executable, "-m", "autogroup", *map(str, argv)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the command ------------------------------------------------------------------------------------------------


def test_each_model_gets_a_row_whatever_becomes_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Linear(3, 2), folder / "pickled.pt")
    torch.save({"w": torch.zeros(2)}, folder / "weights.pt")
    models = ["nets.py:leaves", "nets.py:net", "nets.py:fails", "missing.pt2", "pickled.pt", "weights.pt"]
    models += ["nets.py:threads", "nets.py:hangs", "nets.py:segfaults"]
    status, out, err = run(
        capsys, "scan", *models, "--jobs", 2, "--timeout", 4, "--verify", "--format", "json", "-o", "rows.jsonl"
    )
    rows: dict[str, Any] = {row["model"]: row for row in json.loads(out)}
    assert (status, err, list(rows)) == (3, "", models)
    net = rows["nets.py:net"]
    assert (net["error"], net["verdicts"]) == ("", {"invariant": 1, "dead": 1, "variant": 4})
    assert (net["parameters"], net["elements"], net["covered"]) == (6, 276, 216 + 8)
    assert net["claims"]["proved"] >= 2
    assert net["claims"]["refuted"] == 0
    assert rows["nets.py:threads"]["elements"] == 2
    reasons = {
        "nets.py:hangs": "took longer than --timeout 4 s",
        "nets.py:segfaults": "crashed (SIGSEGV)",
        "nets.py:leaves": "crashed (exit code 7)",
        "nets.py:fails": "ZeroDivisionError: on purpose (nets.py:",
        "missing.pt2": "no such file",
        "pickled.pt": "--trust",
        "weights.pt": "give the architecture with --arch",
    }
    for model, reason in reasons.items():
        assert reason in rows[model]["error"]
        assert rows[model]["exit_code"] == (3 if model == "pickled.pt" else 2)
        assert rows[model]["parameters"] == 0
    assert rows["nets.py:hangs"]["seconds"] >= 4
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert sorted(line["model"] for line in lines) == sorted(models)
    # Nothing is left to do, so the same command answers at once, in any format.
    start = time.monotonic()
    again = run(capsys, "scan", *models, "--verify", "--format", "json", "-o", "rows.jsonl")
    assert (again, time.monotonic() - start < 1) == ((3, out, ""), True)
    status, out, _ = run(capsys, "scan", *models[:3], "--verify", "-o", "rows.jsonl")
    assert (status, "    crashed (exit code 7)" in [line.rstrip() for line in out.splitlines()]) == (2, True)
    assert "3 models, 2 without a report" in out


def test_an_interrupt_leaves_what_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["nets.py:net", "nets.py:hangs", "-o", "rows.jsonl"]
    process = subprocess.Popen(
        command("scan", *options, "--format", "csv"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=folder,
        start_new_session=True,
    )
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all processes get it
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "autogroup: interrupted: 1 of 2 models done; the same command goes on from rows.jsonl\n"
    assert [row["model"] for row in csv.DictReader(io.StringIO(out))] == ["nets.py:net"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)
    (line,) = (folder / "rows.jsonl").read_text().splitlines()
    assert json.loads(line)["model"] == "nets.py:net"
    assert run(capsys, "scan", "nets.py:net", "-o", "rows.jsonl")[0] == 0
    status, _, err = run(capsys, "scan", "nets.py:net", "-o", "rows.jsonl", "--mode", "eval")
    assert (status, "made with another mode" in err) == (2, True)


# --- the file of rows -------------------------------------------------------------------------------------------

OPTIONS = {"mode": None, "verify": False}


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [Row("a", 1, {"dead": 1}, 4, 4, {"proved": 1}, 0.5), Row("b", error="no", exit_code=2)]
    for row in rows:
        RowFile(path, OPTIONS).append(row)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        file = RowFile(path, OPTIONS)
        assert list(file.rows.values()) == rows[: whole[:size].count(b"\n")]
        for row in rows[len(file.rows) :]:
            file.append(row)
        assert path.read_bytes() == whole
    RowFile(path, OPTIONS).append(Row("b", 3))
    assert RowFile(path, OPTIONS).rows["b"] == Row("b", 3)


@pytest.mark.parametrize(
    "content", ["hello", "hello\n", "{}\n", "[]\n", '{"model": "a", "options": {}}\nhello\n', "[" * 5000]
)
def test_another_file_stays_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=r"notes\.txt"):
        RowFile(path, OPTIONS)
    assert path.read_text() == content


def test_a_file_that_cannot_be_written_is_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        RowFile(tmp_path / "absent" / "rows.jsonl", OPTIONS)


def test_failures_are_repeated_only_when_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examined: list[str] = []

    class Pool:
        running: tuple[str, ...] = ()

        def __init__(self, models: list[str], _: object) -> None:
            examined.extend(models)

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...

        def rows(self) -> Iterator[Row]:
            return iter([Row(model, 1) for model in examined])

    monkeypatch.setattr(scan, "Pool", Pool)
    file = RowFile(folder / "rows.jsonl", {"mode": None, "inputs": ["2x3:float32"], "arch": None, "verify": False})
    file.append(Row("a.pt2", error="took longer than --timeout 1 s", exit_code=2))
    file.append(Row("b.pt2", 5))
    options = ["scan", "a.pt2", "b.pt2", "-o", "rows.jsonl", "--input", "2x3", "--format", "json"]
    assert (run(capsys, *options)[0], examined) == (2, [])
    status, out, _ = run(capsys, *options, "--retry")
    assert (status, examined, [row["parameters"] for row in json.loads(out)]) == (0, ["a.pt2"], [1, 5])
    assert (run(capsys, *options)[0], examined) == (0, ["a.pt2"])


# --- patterns ---------------------------------------------------------------------------------------------------


def test_patterns_stand_for_names_and_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"timm": ["resnet18", "resnet50", "vit"], "torchvision": ["resnet18", "alexnet"]}
    monkeypatch.setattr(named, "list_models", lambda library: known[library])
    for name in ("models/b.pt2", "models/a.pth", "models/deep/c.safetensors", "models/notes.txt", "odd[1].pt2"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "models/checkpoint").mkdir()
    (folder / "models/checkpoint/.metadata").touch()
    (folder / "configs/gpt").mkdir(parents=True)
    assert expand(["timm:resnet*"]) == ["timm:resnet18", "timm:resnet50"]
    assert expand(["timm:[v]??", "timm:vit", "torchvision:*"]) == [
        "timm:vit",
        "torchvision:resnet18",
        "torchvision:alexnet",
    ]
    assert expand(["models"]) == ["models/a.pth", "models/b.pt2", "models/deep/c.safetensors"]
    assert expand(["models/*.pt2", "models/**/*.safetensors"]) == ["models/b.pt2", "models/deep/c.safetensors"]
    assert expand(["models/checkpoint", "odd[1].pt2"]) == ["models/checkpoint", "odd[1].pt2"]
    assert expand(["hf:configs/*"]) == ["hf:configs/gpt"]
    assert expand(["nets.py:net", "timm:absent"]) == ["nets.py:net", "timm:absent"]


@pytest.mark.parametrize("pattern", ["timm:no*", "models/*.pt2", "empty", "nets.py:*", "hf:no*"])
def test_a_pattern_that_stands_for_nothing_is_bad_usage(
    pattern: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "list_models", lambda _: ["resnet18"])
    (folder / "empty").mkdir()
    status, out, err = run(capsys, "scan", pattern)
    assert (status, out) == (2, "")
    assert f"{pattern!r} stands for no model" in err


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(LoadError, match="timm"):
        expand(["timm:*"])


# --- rows -------------------------------------------------------------------------------------------------------


def test_only_the_rows_of_a_partial_parameter_are_covered() -> None:
    fused = Partition((6, 4), torch.tensor([0, 1, OUTSIDE, OUTSIDE, 2, OUTSIDE]).view(6, 1))
    parameters = (ParameterReport("w", (6, 4), "partial", "", fused), ParameterReport("v", (5,), "joint", ""))
    row = Row.of("net", Report({p.name: p for p in parameters}), 1.0)
    assert (row.covered, row.elements) == (3 * 4 + 5, 6 * 4 + 5)


ROWS = [
    Row(
        "timm:a_model_with_a_rather_long_name",
        161,
        {"invariant": 53, "variant": 108},
        25_557_032,
        23_454_912,
        None,
        1.25,
    ),
    Row("net.pt2", error="crashed (SIGSEGV)", exit_code=2),
    Row("b", 2, {"dead": 1, "unknown": 1}, 12, 4, {"proved": 3, "refuted": 1, "undecided": 0}, 12.0, "", 1),
]


@pytest.mark.parametrize("width", [50, 70, 100, 160])
def test_no_number_is_cut_in_a_narrow_table(width: int) -> None:
    text = io.StringIO()
    print_rows(ROWS, console=Console(file=text, width=width))
    lines = text.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    if width >= 100:
        assert {"25,557,032", "91.8", "refuted", "12.0"} <= set(text.getvalue().split())
        assert "undecided" not in text.getvalue()
    assert "    crashed (SIGSEGV)" in [line.rstrip() for line in lines]


def test_rows_as_data_agree() -> None:
    read = list(csv.DictReader(io.StringIO(rows_to_csv(ROWS))))
    data = json.loads(rows_to_json(ROWS))
    assert [Row(**row) for row in data] == ROWS
    assert [row["model"] for row in read] == [row["model"] for row in data]
    assert (read[0]["invariant"], read[0]["dead"], read[0]["refuted"]) == ("53", "0", "")
    assert (read[1]["invariant"], read[1]["parameters"], read[1]["error"]) == ("", "", "crashed (SIGSEGV)")
    assert (read[2]["unknown"], read[2]["refuted"], read[2]["exit_code"]) == ("1", "1", "1")


# --- progress ---------------------------------------------------------------------------------------------------


def test_the_library_says_what_it_is_doing_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    calls: list[tuple[str, int, int]] = []
    images = torch.zeros(2, 3, 8, 8)
    report = analyze(model, images, progress=lambda *call: calls.append(call))
    assert calls == [("capture", 0, 1), ("analyze", 0, 1)]
    calls.clear()
    certificate = certify(model, report, images, progress=lambda *call: calls.append(call))
    claims = calls[0][2]
    assert calls[0] == ("certify", 0, claims)
    assert calls[-1] == ("certify", claims, claims)
    assert {call[0] for call in calls} == {"certify"}
    assert claims == len(certificate.proofs) - report.counts()["dead"]
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_elsewhere_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, plain, err = run(capsys, "inspect", "nets.py:threads", "--verify", "--input", "2x1")
    assert (status, err) == (0, "")
    status, out, err = run(capsys, "inspect", "nets.py:threads", "--verify", "--input", "2x1", "--progress")
    assert (status, out) == (0, plain)
    assert [line.removeprefix("nets.py:threads: ") for line in err.splitlines()] == [
        "load",
        "capture",
        "analyze",
        "certify",
    ]


def test_a_terminal_shows_progress_and_is_left_clean(folder: Path) -> None:
    out, err = at_a_terminal(folder, "inspect", "nets.py:net", "--format", "csv")
    assert "\x1b" not in out
    assert "0.weight" in out
    assert "nets.py:net: capture" in err
    assert err.endswith("\x1b[2K"), "the line must be wiped"
    assert err.count("\x1b[?25l") == err.count("\x1b[?25h") == 1, "the cursor must come back"


def test_a_terminal_shows_nothing_if_told_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    status, _, err = run(capsys, "inspect", "nets.py:threads", "--input", "2x1", "--no-progress")
    assert (status, err) == (0, "")


def at_a_terminal(folder: Path, *argv: object) -> tuple[str, str]:
    """Run a command whose stderr is a terminal and whose stdout is a pipe."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        command(*argv), stdout=subprocess.PIPE, stderr=its_end, env={**environment(), "TERM": "xterm"}, cwd=folder
    )
    os.close(its_end)
    got: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 65536):
                got.append(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(terminal)
    return out.decode(), b"".join(got).decode()
