"""The command line of the training example: what it refuses, what it writes, what it never overwrites."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest

from train import main
from training.history import EPOCH_COLUMNS, LAYER_COLUMNS
from training.runs import FILES
from training.settings import Settings

QUICK = ["--limit", "64", "--epochs", "1", "--batch-size", "32"]

REFUSED: dict[str, tuple[str, str]] = {
    "unknown optimizer": ("--optimizer adamsr", r"no optimizer is called 'adamsr': did you mean .*adamsrt"),
    "unknown option": (
        "--set momentun=0.9 --optimizer torch.sgd",
        r"has no option 'momentun'; it has lr, momentum, .*nesterov",
    ),
    "option of another optimizer": ("--set rho=0.1", "adamsrt has no option 'rho'; it has lr, betas"),
    "value out of bounds": ("--lr -1", "adamsrt cannot be built: .*lr must be a finite number >= 0"),
    "no assignment": ("--set momentum", "'momentum' is not of the form key=value"),
    "group key as option": ("--set channel_dims=(0,)", "has no option 'channel_dims'"),
    "unknown wrapper": ("--wrap lookahed", "--wrap: no wrapper is called 'lookahed': did you mean lookahead"),
    "wrapper for several losses": ("--wrap pcgrad", "PCGrad balances the gradients of several losses"),
    "option of no wrapper": ("--set sam.rho=0.1", "there is no --wrap sam"),
    "unknown option of a wrapper": ("--wrap sam --set sam.k=1", "sam has no option 'k'; it has rho, adaptive, eta"),
    "unknown preset": ("--preset adamsrt/cifar10-resnet18-adamsr", "did you mean adamsrt/cifar10-resnet18-adamsrt"),
    "preset and optimizer": ("--preset pytorch_optimizer/adamp --optimizer adam", "leave out --optimizer adam"),
    "mixed precision": ("--amp bf16", "--amp bf16 needs a CUDA device, and torch finds none here: leave --amp out"),
    "sharding alone": ("--fsdp", "start them with torchrun --standalone --nproc-per-node 2"),
    "batch too large": ("--batch-size 2000", "--batch-size 2000 is more than the 1437 training images"),
    "batch that cannot be split": ("--batch-size 10 --accumulate 4", "must be a multiple of 4"),
    "no epochs": ("--epochs 0", "--epochs must be at least 1, got 0"),
    "no images": ("--limit 0", "--limit must be at least 1"),
    "long warm-up": ("--epochs 2 --warmup 3", "--warmup must be from 0 to the number of epochs, 2"),
    "steps at no epoch": ("--schedule step", "--schedule step needs --milestones"),
    "decay of clipped gradients": ("--optimizer sgd_agc --decay variant", "take --decay weights"),
    "no folder of images": ("--dataset imagenet --data nowhere", r"nowhere.train with|does not exist|torchvision"),
    "no run to resume": ("--resume nowhere", "nowhere holds no run"),
    "settings of a resumed run": ("--resume nowhere --lr 0.1", "leave out --lr"),
    "compare nothing": ("--compare adamm", "adamm is no folder with a run and no preset, and no optimizer is called"),
    "compare twice": ("--compare adam adam", "--compare names adam twice"),
    "unknown dataset": ("--dataset mnist", "invalid choice: 'mnist'"),
    "abbreviation": ("--opt adam", "unrecognized arguments: --opt"),
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


def run(*arguments: str, code: int = 0) -> None:
    assert main([*QUICK, "--no-curves", *arguments]) == code


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    try:
        code = main([*arguments.split(), "--no-curves"])
    except SystemExit as end:  # of argparse
        code = end.code
    assert code == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err.replace("\n", " ")), printed.err
    assert "Traceback" not in printed.err
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_a_run_leaves_its_settings_checkpoint_logs_and_curves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QUICK, "--seed", "3", "--set", "betas=(0.9,0.99)", "--epochs", "2"]) == 0
    folder = Path("runs/digits-resnet20-adamsrt")
    assert {path.name for path in folder.iterdir()} == set(FILES)
    stored = Settings.load(folder)
    assert (stored.seed, stored.epochs, stored.options) == (3, 2, {"betas": [0.9, 0.99]})
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == EPOCH_COLUMNS and [row["epoch"] for row in rows] == ["1", "2"]
    with (folder / "effective_lr.csv").open() as file:
        layers = list(csv.DictReader(file))
    assert tuple(layers[0]) == LAYER_COLUMNS
    assert len({row["layer"] for row in layers}) == 21  # 19 convolutions and 2 projections
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "epoch 2/2" in printed and f"{float(rows[-1]['accuracy']):.2f}" in printed
    assert str(folder) in printed


def test_folders_are_never_overwritten_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    run("--out", "a")
    before = contents(Path("a"))
    run("--out", "a", code=2)
    assert "--resume a goes on with it, --overwrite deletes it" in capsys.readouterr().err
    run("--out", "a", "--overwrite", "--optimizer", "nonsense", code=2)
    run("--out", "a", "--overwrite", "--lr", "-1", code=2)
    assert contents(Path("a")) == before  # also when the new run could not start
    run("--out", "a", "--overwrite", "--seed", "1")
    assert Settings.load(Path("a")).seed == 1
    run()
    run()
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "digits-resnet20-adamsrt",
        "digits-resnet20-adamsrt-2",
    ]
    Path("notes").mkdir()
    Path("notes/log.csv").write_text("mine")
    run("--out", "notes", "--overwrite", code=2)
    assert Path("notes/log.csv").read_text() == "mine"
    Path("file").write_text("mine")
    run("--out", "file", code=2)
    assert Path("file").read_text() == "mine"


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    run("--out", "a")
    before = contents(Path("a"))
    assert main(["--resume", "a", "--no-curves"]) == 0
    assert contents(Path("a")) == before
    assert "Results" in capsys.readouterr().out


def test_compare_trains_what_is_missing_and_reads_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    run("--out", "mine", "--optimizer", "lamb")
    run("--compare", "adam", "pytorch_optimizer/adamp", "mine", "--out", "both")
    printed = capsys.readouterr().out
    assert all(label in printed for label in ("adam ", "pytorch_optimizer/adamp ", "mine "))
    assert {path.name for path in Path("both").iterdir()} == {"adam", "pytorch_optimizer-adamp"}
    assert json.loads(Path("both/pytorch_optimizer-adamp/run.json").read_text())["options"]["delta"] == 0.1
    before = contents(Path("both/adam"))
    assert main([*QUICK, "--compare", "adam", "mine", "--out", "both"]) == 0  # with curves
    assert contents(Path("both/adam")) == before
    assert Path("both/curves.png").read_bytes().startswith(b"\x89PNG")
    run("--compare", "adam", "sgd_gc", "--out", "both", "--lr", "0.5", code=2)
    assert "both/adam holds a run with other settings (--options)" in capsys.readouterr().err
    assert not Path("both/sgd_gc").exists()  # found out before anything was trained
    run("--compare", "adam", "both", code=2)
    assert "the folder both holds no run" in capsys.readouterr().err


def test_compare_survives_a_run_that_diverges(capsys: pytest.CaptureFixture[str]) -> None:
    run("--compare", "torch.sgd", "adamsrt", "--lr", "1e30")
    printed = " ".join(capsys.readouterr().out.split())
    assert "diverged" in printed and "lower --lr" in printed


def test_a_run_that_diverges_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run("--optimizer", "torch.sgd", "--lr", "1e30", code=2)
    assert "training diverged: the loss is nan in epoch 1, step 2; lower --lr" in capsys.readouterr().err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    for name in ("adamsrt", "lookahead", "vgg16", "rmsgd/cifar10-resnet34-rmsgd", "2203.16723"):
        assert name in printed
    assert "pcgrad" not in printed


@pytest.mark.parametrize("library", ["matplotlib", "torchvision.datasets", "sklearn.datasets"])
def test_missing_libraries(library: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    dataset = "cifar10" if library.startswith("torchvision") else "digits"
    assert main([*QUICK, "--dataset", dataset, *([] if library == "matplotlib" else ["--no-curves"])]) == 2
    printed = capsys.readouterr().err
    assert library.split(".")[0].replace("sklearn", "scikit-learn") in printed
    assert "pip install 'autogroup[examples]'" in printed
    assert not Path("runs").exists()


def test_smoke_and_flags_over_presets() -> None:
    assert (
        main(
            ["--smoke", "--no-curves", "--preset", "adamsrt/cifar10-vgg16-sgdmrt", "--dataset", "digits", "--out", "a"]
        )
        == 0
    )
    stored = Settings.load(Path("a"))
    assert (stored.model, stored.optimizer, stored.options["lr"], stored.epochs) == ("vgg16", "sgdmrt", 0.1, 1)
    assert (stored.dataset, stored.batch_size, stored.schedule, stored.limit) == ("digits", 128, "step", 256)
