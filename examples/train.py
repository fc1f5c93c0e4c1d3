"""Train an image classifier with any optimizer, on the parameter groups that autogroup finds.

    python examples/train.py                               ResNet-20, AdamSRT, scikit-learn's digits: under a minute
    python examples/train.py --list                        names of optimizers, wrappers, models and published runs
    python examples/train.py --optimizer adamp --lr 3e-3 --set weight_decay=1e-2 --wrap lookahead
    python examples/train.py --compare adam adamsrt adamp  side by side; finished runs are not repeated
    python examples/train.py --compare runs/a runs/b       the same for runs that are there

    python examples/train.py --dataset cifar10 --data data --download --model resnet18 --optimizer sgdmrt --lr 0.1
    python examples/train.py --preset adamsrt/cifar10-resnet18-adamsrt --amp bf16
    python examples/train.py --dataset imagenet --data /path/to/imagenet --model resnet18 --workers 8
    python examples/train.py --resume runs/cifar10-resnet18-adamsrt

    torchrun --standalone --nproc-per-node 2 examples/train.py [--fsdp] ...

A run leaves a folder: run.json (its settings), checkpoint.pt, log.csv (a row per epoch), effective_lr.csv (a row per
epoch and scale-invariant weight) and curves.png. Ctrl-C writes a checkpoint, and a resumed run gives the same weights
and rows, bit for bit, as one that was not interrupted.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from training import compare, curves, runs, show
from training.distributed import Place, place
from training.models import MODELS
from training.presets import find_preset
from training.settings import AMP, DATASETS, DECAY, HARMLESS, SCHEDULES, Settings, UsageError, flag

RUNS = Path("runs")
CONTROL = ("out", "resume", "overwrite", "compare", "list", "smoke", "save_every", "download", "curves", "lr", "set")
USUAL: dict[str, dict[str, Any]] = {
    "digits": {},
    "imagenet": {"model": "resnet18", "epochs": 90, "batch_size": 256},
    "": {"model": "resnet18", "epochs": 200, "batch_size": 128},
}
"""Defaults by dataset, where they are not those of ``Settings``."""


def names(text: str) -> tuple[str, ...]:
    """Read a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def assignment(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is a Python literal, or else a word."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return key, words[value.lower()]
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def parser() -> argparse.ArgumentParser:
    """Return the command line. What is not given is absent from the result, so that presets can fill it in."""
    found = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    what = found.add_argument_group("what to train")
    what.add_argument("--dataset", choices=DATASETS)
    what.add_argument("--data", metavar="DIR", help="folder of the dataset (default: data)")
    what.add_argument("--download", action="store_true", help="fetch the dataset if it is missing")
    what.add_argument("--model", choices=list(MODELS))
    what.add_argument("--image-size", type=int, help="crops of imagenet (default: 224)")
    what.add_argument("--limit", type=int, metavar="N", help="use only N training and N test images")
    how = found.add_argument_group("how")
    how.add_argument("--preset", metavar="NAME", help="a published run; other flags win over it")
    how.add_argument("--optimizer", metavar="NAME", help="see --list; torch.NAME means that of torch.optim")
    how.add_argument("--lr", type=float)
    how.add_argument(
        "--set",
        type=assignment,
        action="append",
        metavar="KEY=VALUE",
        help="option of the optimizer, or WRAPPER.OPTION",
    )
    how.add_argument("--wrap", type=names, metavar="A,B", help="wrappers, from the inside out: sam,lookahead")
    how.add_argument(
        "--decay",
        choices=DECAY,
        help="what weight_decay acts on: all, not norms and biases, not invariant weights either",
    )
    how.add_argument("--schedule", choices=SCHEDULES)
    how.add_argument(
        "--milestones", type=lambda text: tuple(map(int, names(text))), metavar="E,E", help="epochs for --schedule step"
    )
    how.add_argument("--gamma", type=float, help="factor at the milestones (default: 0.1)")
    how.add_argument("--warmup", type=float, metavar="EPOCHS", help="linear warm-up")
    how.add_argument("--epochs", type=int)
    how.add_argument("--batch-size", type=int, help="over all processes")
    how.add_argument("--accumulate", type=int, metavar="N", help="split each batch into N passes")
    how.add_argument("--amp", choices=AMP, help="mixed precision, on a GPU")
    how.add_argument("--fsdp", action="store_true", help="shard the parameters (with torchrun)")
    how.add_argument("--seed", type=int)
    how.add_argument("--workers", type=int, help="processes that load images")
    run = found.add_argument_group("the run")
    run.add_argument("--out", type=Path, metavar="DIR", help="its folder (default: a new one in runs)")
    run.add_argument("--resume", type=Path, metavar="DIR", help="go on with a run; it keeps its settings")
    run.add_argument("--overwrite", action="store_true", help="delete the run that is in --out")
    run.add_argument("--compare", nargs="+", metavar="NAME", help="optimizers, presets and folders of runs")
    run.add_argument("--save-every", type=int, default=0, metavar="STEPS", help="checkpoints within an epoch")
    run.add_argument(
        "--no-curves", dest="curves", action="store_false", default=True, help="do not draw (no matplotlib)"
    )
    run.add_argument("--list", action="store_true", help="print all names and leave")
    run.add_argument("--smoke", action="store_true", help="a few seconds: one epoch on 256 images")
    return found


def merge(given: Mapping[str, Any]) -> Settings:
    """Return full settings: defaults, then those usual for the dataset, then the preset, then what was given."""
    own = {key: value for key, value in given.items() if key not in CONTROL}
    preset: dict[str, Any] = {}
    if "preset" in own:
        if "optimizer" in own:
            raise UsageError(
                f"--preset {own['preset']} names its optimizer: leave out {flag('optimizer')} {own['optimizer']}"
            )
        preset = find_preset(own["preset"]).scaled(own.get("epochs"))
    dataset = own.get("dataset", preset.get("dataset", "digits"))
    options = {**preset.pop("options", {}), **dict(given.get("set", ()))}
    if "lr" in given:
        options["lr"] = given["lr"]
    merged: dict[str, Any] = {**USUAL.get(dataset, USUAL[""]), **preset, **own, "options": options}
    return Settings(**merged)


def print_results(
    found: Mapping[str, Any], folder: Path, given: Mapping[str, Any], here: Place, console: Console
) -> None:
    """Print the table and draw the curves of runs."""
    if not here.leads:
        return
    console.print(show.results(found))
    histories = {label: history for label, history in found.items() if not isinstance(history, str)}
    if given["curves"] and histories:
        folder.mkdir(parents=True, exist_ok=True)
        curves.draw(histories, folder / curves.FILE)
    console.print(f"Everything is in {folder}", highlight=False, soft_wrap=True)


def train_one(given: Mapping[str, Any], here: Place, console: Console) -> int:
    """Start or resume one run; return the exit code."""
    if "resume" in given:
        folder: Path = given["resume"]
        extra = [flag(key) for key in given if key not in (*HARMLESS, "resume", "save_every", "curves")]
        if extra:
            raise UsageError(f"--resume goes on with the settings of {folder}: leave out {', '.join(extra)}")
        run = runs.resume(folder, here, **{key: given[key] for key in HARMLESS if key in given})
    else:
        settings = merge(given)
        folder = here.agree(given.get("out") or runs.free_folder(RUNS, settings.name))
        run = runs.start(settings, folder, here, given.get("overwrite", False), given.get("download", False))
    if not runs.train(run, folder, console, given["save_every"]):
        console.print(
            f"Interrupted. Go on with: python {sys.argv[0]} --resume {folder}", highlight=False, soft_wrap=True
        )
        return 130
    print_results({run.settings.name: run.history}, folder, given, here, console)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code: 2 for what cannot be done, 130 for an interruption."""
    given: dict[str, Any] = vars(parser().parse_args(arguments))
    if given.pop("smoke", False):
        given = {"epochs": 1, "limit": 256, **given}
    console = Console()
    try:
        if given.get("list"):
            console.print(show.names())
            return 0
        if given["curves"]:
            curves.check_matplotlib()
        with place() as here:
            if "compare" not in given:
                return train_one(given, here, console)
            out = given.get("out", RUNS / "compare")
            plan = compare.planned(given["compare"], given, merge)
            found = compare.compare(plan, out, here, console, given.get("overwrite", False), given["save_every"])
            print_results(found, out, given, here, console)
    except UsageError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"train.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
