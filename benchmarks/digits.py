"""Does every optimizer train? A small CNN with batch norms on scikit-learn's digits, 95 % of the test set required.

    python -m benchmarks.digits                       all optimizers and wrappers, three seeds
    python -m benchmarks.digits --only adamsrt sam    some of them
    python -m benchmarks.digits --write               also writes docs/digits.md

Everything is as it is by default, but for the options below that have a reason. The learning rate is constant (Ranger21
brings a schedule of its own). The groups come from autogroup.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import autogroup
import optimizers
from autogroup import recipes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "digits.md"
EPOCHS, BATCH, TEST, REQUIRED = 15, 64, 360, 95.0
SEEDS = (0, 1, 2)
SGD: Mapping[str, Any] = {"lr": 0.1, "momentum": 0.9}
"""The optimizer inside the wrappers: ``torch.optim.SGD``."""

OPTIONS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "gradientnormalization": ({"lr": 1e-3}, "the entries of its gradients are of size 1, so its steps are like Adam's"),
    "lamb": ({"lr": 1e-2}, "a step moves a weight by lr times its norm, and 330 steps of 0.1 % do not lead far"),
    "pnm": ({"lr": 0.1}, "its steps are those of SGD, for which 1e-3 is slow; the paper takes 0.1 on CIFAR"),
    "ranger": ({"lr": 1e-2}, "rectification starts with small steps, and the slow weights go half of the way"),
}
"""Options other than the defaults, of the optimizer inside for a wrapper, and why."""


@cache
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images ``[n, 1, 8, 8]`` in [0, 1], their labels, and the same for the test set."""
    digits: Any = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)[order]
    labels = torch.tensor(digits.target)[order]
    return images[TEST:], labels[TEST:], images[:TEST], labels[:TEST]


def network() -> nn.Module:
    """Return the CNN: images ``[batch, 1, 8, 8]`` → logits ``[batch, 10]``."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def groups(name: str, model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    """Return the groups that the family of an optimizer reads."""
    report = autogroup.analyze(model, (images,))
    if name in ("adamp", "sgdp"):
        return recipes.adamp(report, model)
    if name.endswith("_agc"):
        return recipes.agc(report, model)
    return report.param_groups(model)


def build(name: str, model: nn.Module, steps: int, images: Tensor) -> Any:
    """Build an optimizer, or a wrapper around SGD, by its name."""
    own = dict(OPTIONS.get(name, ({}, ""))[0])
    params = groups(name, model, images)
    if name in optimizers.list_optimizers():
        own |= {"num_iterations": steps} if name == "ranger21" else {}
        return optimizers.load_optimizer(name)(params, **own)
    cls: Any = optimizers.load_wrapper(name)
    inside = {**SGD, **own}
    return cls(params, torch.optim.SGD, **inside) if name in ("sam", "asam") else cls(torch.optim.SGD(params, **inside))


def do_step(name: str, optimizer: Any, model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Do one step in the way the optimizer wants it."""

    def loss(part: slice = slice(None)) -> Tensor:
        return F.cross_entropy(model(images[part]), labels[part])

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward(create_graph=name == "adahessian")
        return value

    if name == "pcgrad":  # the halves of a batch are its tasks
        optimizer.zero_grad()
        optimizer.pc_backward([loss(slice(0, len(labels) // 2)), loss(slice(len(labels) // 2, None))])
        optimizer.step()
    elif getattr(optimizer, "needs_closure", False):
        closure()
        optimizer.step(closure)
    else:
        optimizer.step(closure)


def train(name: str, seed: int, epochs: int = EPOCHS) -> float:
    """Train a network and return its accuracy on the test set in percent."""
    torch.manual_seed(seed)
    model, (images, labels, test_images, test_labels) = network(), data()
    batches = len(labels) // BATCH
    optimizer = build(name, model, epochs * batches, images[:BATCH])
    for _ in range(epochs):
        for batch in torch.randperm(len(labels))[: batches * BATCH].split(BATCH):
            do_step(name, optimizer, model, images[batch], labels[batch])
        if hasattr(optimizer, "epoch_step"):
            optimizer.epoch_step()
    optimizer.zero_grad()  # AdaHessian's gradients hold the graph
    model.eval()
    with torch.no_grad():
        return 100 * (model(test_images).argmax(1) == test_labels).double().mean().item()


@dataclass(frozen=True)
class Row:
    """What came of one optimizer: accuracies in percent by seed, and the seconds that one run took."""

    name: str
    rate: float
    accuracies: tuple[float, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the mean over the seeds reaches what is required."""
        return statistics.mean(self.accuracies) >= REQUIRED


def measure(name: str, seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS) -> Row:
    """Train once per seed."""
    start = time.process_time()
    accuracies = tuple(train(name, seed, epochs) for seed in seeds)
    model = network()
    rate = float(build(name, model, epochs, data()[0][:BATCH]).param_groups[0]["lr"])
    return Row(name, rate, accuracies, (time.process_time() - start) / len(seeds))


HEADER = ("optimizer", "lr", "accuracy, mean %", "lowest %", "seconds")


def cells(row: Row) -> tuple[str, ...]:
    """Return what the table shows of a row."""
    mean, low = statistics.mean(row.accuracies), min(row.accuracies)
    mark = "" if row.name not in OPTIONS else " *"
    return f"{row.name}{mark}", f"{row.rate:g}", f"{mean:.2f}", f"{low:.2f}", f"{row.seconds:.1f}"


def page(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Digits\n"
    yield "Written by `python -m benchmarks.digits --write`.\n"
    yield (
        f"A CNN with two convolutions, each before a batch norm, on scikit-learn's 8×8 digits: {EPOCHS} epochs of "
        f"batches of {BATCH}, {TEST} images held out for the test, {len(SEEDS)} seeds, one core. Learning rates are "
        "constant and, like all options, the defaults; those marked * are not, for the reasons below. Wrappers are "
        f"around `torch.optim.SGD(lr={SGD['lr']}, momentum={SGD['momentum']})`. The command fails if a mean is below "
        f"{REQUIRED:g} %. That says that an optimizer trains, not how good it is.\n"
    )
    yield f"| {' | '.join(HEADER)} |"
    yield "|---" * len(HEADER) + "|"
    yield from (f"| {' | '.join(cells(row))} |" for row in rows)
    if OPTIONS:
        yield ""
    yield from (f"- {name}: `{dict(given)}`: {reason}." for name, (given, reason) in OPTIONS.items())


def show(rows: Sequence[Row]) -> Table:
    """Return the table for a terminal."""
    table = Table(*HEADER, box=box.SIMPLE)
    for row in rows:
        table.add_row(*cells(row), style=None if row.passed else "bold red")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return 0 if all reach what is required."""
    known = [*optimizers.list_optimizers(), *optimizers.list_wrappers()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--write", action="store_true", help="write docs/digits.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    # torch warns of the memory that AdaHessian's gradients hold; here they are dropped after each step.
    warnings.filterwarnings("ignore", "Using backward.. with create_graph=True", UserWarning)
    console, rows = Console(), list[Row]()
    for name in given.only:
        rows.append(measure(name, given.seeds, given.epochs))
        console.print(*cells(rows[-1]))
    console.print(show(rows))
    if given.write:
        PAGE.write_text("\n".join(page(rows)) + "\n", encoding="utf-8")
    missed = [row.name for row in rows if not row.passed]
    if missed:
        console.print(f"below {REQUIRED:g} %: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
