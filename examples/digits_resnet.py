"""Adam, AdamSRT with a name filter, and AdamSRT on the groups of autogroup, on scikit-learn's handwritten digits.

The network is a small residual CNN. Its names are ordinary ones, and the usual name filter gets five of its ten
convolution weights wrong: it misses the shortcuts and the 1×1 ``reduce`` layers, and takes ``final_conv``, which no
norm follows. Every method gets the same learning rates to choose from; the choice is made on the validation set with
seeds that the final runs do not use, and the test set is read once per final run.

Run ``python examples/digits_resnet.py``: about five minutes on one core. It prints a table and writes a plot.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import autogroup
from optimizers import AdamSRT

mpl.use("Agg")  # no screen needed
from matplotlib import pyplot as plt

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEARCH_SEEDS = (1000, 1001, 1002, 1003, 1004)
BATCH_SIZE = 50
WEIGHT_DECAY = 1e-4


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut, a 1×1 ``reduce`` in front; a batch norm after each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(outputs // 2)
        self.conv1 = nn.Conv2d(outputs // 2, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``x [batch, inputs, h, w]`` → ``[batch, outputs, h / stride, w / stride]``."""
        y = F.relu(self.bn0(self.reduce(x)))
        y = F.relu(self.bn1(self.conv1(y)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitsNet(nn.Module):
    """Images ``[batch, 1, 8, 8]`` → logits ``[batch, 10]``; the classifier is a 1×1 convolution."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = Residual(width, width, stride=1)
        self.layer2 = Residual(width, 2 * width, stride=2)
        self.final_conv = nn.Conv2d(2 * width, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = F.relu(self.bn1(self.conv1(x)))
        return self.final_conv(self.layer2(self.layer1(x))).mean((2, 3))


def taken_by_name(name: str) -> bool:
    """Return what the usual name filter says of a parameter: a convolution, therefore followed by a norm."""
    return "conv" in name or "downsample.0" in name


def adam(model: nn.Module, images: Tensor, lr: float) -> torch.optim.Optimizer:
    """Plain Adam."""
    del images
    return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)


def adam_srt_by_name(model: nn.Module, images: Tensor, lr: float) -> torch.optim.Optimizer:
    """AdamSRT, channel-wise on the parameters that a name filter takes."""
    del images
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if taken_by_name(name)], "channel_wise": True},
        {"params": [p for name, p in named if not taken_by_name(name)]},
    ]
    return AdamSRT(groups, lr=lr, weight_decay=WEIGHT_DECAY)


def adam_srt_autogroup(model: nn.Module, images: Tensor, lr: float) -> torch.optim.Optimizer:
    """AdamSRT on the groups that the analysis of the model's graph gives."""
    return AdamSRT(autogroup.auto_param_groups(model, (images,)), lr=lr, weight_decay=WEIGHT_DECAY)


Builder = Callable[[nn.Module, Tensor, float], torch.optim.Optimizer]
METHODS: dict[str, Builder] = {
    "Adam": adam,
    "AdamSRT, names": adam_srt_by_name,
    "AdamSRT, autogroup": adam_srt_autogroup,
}


@dataclass(frozen=True)
class Digits:
    """Images in [0, 1] and labels of the three parts: 600 to train, 400 to choose, 797 to test."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load() -> Digits:
    """Read the digits that come with scikit-learn; the split is the same in every run."""
    data: Any = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target, dtype=torch.long)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = [(images[i], labels[i]) for i in order.split((600, 400, len(order) - 1000))]
    return Digits(*parts)


@dataclass
class Run:
    """One training run: validation error after each epoch, and the final accuracy and loss on the part asked for."""

    errors: list[float] = field(default_factory=list)
    accuracy: float = 0.0
    loss: float = 0.0


@torch.no_grad()
def evaluate(model: nn.Module, part: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return accuracy and cross entropy, with the running statistics of the batch norms."""
    images, labels = part
    model.eval()
    logits = model(images)
    model.train()
    return (logits.argmax(1) == labels).float().mean().item(), F.cross_entropy(logits, labels).item()


def train(
    build: Builder,
    digits: Digits,
    lr: float,
    seed: int,
    epochs: int,
    part: tuple[Tensor, Tensor],
    tick: Callable[[], None],
) -> Run:
    """Train one network with a cosine learning rate and evaluate it once on ``part``."""
    torch.manual_seed(seed)
    model = DigitsNet()
    images, labels = digits.train
    optimizer = build(model, images[:BATCH_SIZE], lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(labels) // BATCH_SIZE))
    run = Run()
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            scheduler.step()
        run.errors.append(1 - evaluate(model, digits.validation)[0])
        tick()
    run.accuracy, run.loss = evaluate(model, part)
    return run


def search(
    build: Builder,
    digits: Digits,
    epochs: int,
    rates: Iterable[float],
    seeds: Iterable[int],
    tick: Callable[[], None],
) -> dict[float, tuple[float, float]]:
    """Return learning rate → mean validation accuracy and minus the mean validation loss."""
    scores: dict[float, tuple[float, float]] = {}
    for lr in rates:
        runs = [train(build, digits, lr, seed, epochs, digits.validation, tick) for seed in seeds]
        scores[lr] = (statistics.mean(run.accuracy for run in runs), -statistics.mean(run.loss for run in runs))
    return scores


def coverage_table() -> Table:
    """Compare the name filter with the analysis, parameter by parameter."""
    model = DigitsNet()
    report = autogroup.analyze(model, (torch.zeros(2, 1, 8, 8),))
    table = Table(title="What the name filter takes, what the graph says", title_justify="left", box=box.SIMPLE)
    for column in ("parameter", "name filter", "verdict", "channel_dims", "name filter is"):
        table.add_column(column)
    for name, parameter in report.parameters.items():
        taken, invariant = taken_by_name(name), parameter.verdict == "invariant"
        if taken or invariant:
            judgement = "right" if taken and invariant else "[red]wrong[/]" if taken else "[red]silent[/]"
            dims = "" if parameter.channel_dims is None else str(parameter.channel_dims)
            table.add_row(name, "taken" if taken else "", parameter.verdict, dims, judgement)
    return table


def search_table(scores: dict[str, dict[float, tuple[float, float]]]) -> Table:
    """Show how much the choice of the learning rate matters; the chosen one is marked."""
    table = Table(title="Search: mean validation accuracy %", title_justify="left", box=box.SIMPLE)
    table.add_column("method", no_wrap=True)
    for lr in next(iter(scores.values())):
        table.add_column(f"{lr:g}", justify="right", no_wrap=True)
    for method, found in scores.items():
        best = max(found, key=found.__getitem__)
        table.add_row(method, *(f"{100 * found[lr][0]:.1f}{'*' if lr == best else ' '}" for lr in found))
    return table


def spread(values: list[float], digits: int = 2) -> str:
    """Print mean ± standard deviation."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def results_table(rates: dict[str, float], runs: dict[str, list[Run]]) -> Table:
    """Mean ± standard deviation over the seeds.

    The difference from the first method is taken seed by seed (same initial weights, same batches); after its ± is
    the standard error of that mean difference, so that a difference below about twice this number is noise.
    """
    table = Table(title="Test set, 797 digits", title_justify="left", box=box.SIMPLE)
    table.add_column("method", no_wrap=True)
    baseline = next(iter(runs))
    for column in ("lr", "accuracy %", f"minus {baseline}", "loss"):
        table.add_column(column, justify="right", no_wrap=True)
    for method, done in runs.items():
        pairs = zip(done, runs[baseline], strict=True)
        gains = [100 * (run.accuracy - other.accuracy) for run, other in pairs]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        table.add_row(
            method,
            f"{rates[method]:g}",
            spread([100 * run.accuracy for run in done]),
            "" if method == baseline else f"{statistics.mean(gains):+.2f} ± {error:.2f}",
            spread([run.loss for run in done], 3),
        )
    return table


def plot(runs: dict[str, list[Run]], path: Path) -> None:
    """Draw the validation error of every epoch, mean and one standard deviation, and each seed's test accuracy."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(2, 1), layout="constrained")
    for position, (method, done) in enumerate(runs.items()):
        curves = 100 * torch.tensor([run.errors for run in done])
        mean, deviation = curves.mean(0), curves.std(0)
        epochs = range(1, len(mean) + 1)
        (line,) = left.plot(epochs, mean, label=method)
        left.fill_between(epochs, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2)
        accuracy = [100 * run.accuracy for run in done]
        right.plot([position] * len(accuracy), accuracy, "o", color=line.get_color(), alpha=0.6)
        right.plot(position, statistics.mean(accuracy), "_", color="black", markersize=24)
    left.set(xlabel="epoch", ylabel="validation error, %", yscale="log", title="Validation error")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    right.set(ylabel="test accuracy, %", title="Test accuracy, one dot per seed")
    right.set_xticks(range(len(runs)), [method.replace(", ", "\n") for method in runs])
    right.margins(x=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Search, train, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10, help="final runs per method (at least 2)")
    parser.add_argument("--out", type=Path, default=Path("digits_resnet.png"), help="where to write the plot")
    parser.add_argument("--smoke", action="store_true", help="a few seconds: 1 epoch, 2 seeds, 1 learning rate")
    options = parser.parse_args()
    if options.seeds < 2 or options.epochs < 1:
        parser.error("at least 2 seeds and 1 epoch are needed")
    epochs, seeds, rates, search_seeds = options.epochs, options.seeds, LEARNING_RATES, SEARCH_SEEDS
    if options.smoke:
        epochs, seeds, rates, search_seeds = 1, 2, (1e-3,), (1000,)

    torch.set_num_threads(1)  # the network is too small for more
    digits = load()
    console = Console()
    console.print(coverage_table())
    chosen: dict[str, float] = {}
    scores: dict[str, dict[float, tuple[float, float]]] = {}
    runs: dict[str, list[Run]] = {}
    with Progress(console=console) as progress:
        total = len(METHODS) * epochs * (len(rates) * len(search_seeds) + seeds)
        task = progress.add_task("training", total=total)
        for method, build in METHODS.items():
            progress.update(task, description=method)
            tick = partial(progress.advance, task)
            scores[method] = search(build, digits, epochs, rates, search_seeds, tick)
            chosen[method] = max(scores[method], key=scores[method].__getitem__)  # the loss decides between equals
            runs[method] = [
                train(build, digits, chosen[method], seed, epochs, digits.test, tick) for seed in range(seeds)
            ]
    console.print(search_table(scores))
    console.print(results_table(chosen, runs))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plot(runs, options.out)
    console.print(
        f"{seeds} seeds, {epochs} epochs on 600 digits, weight decay {WEIGHT_DECAY:g}. Every method chose from the "
        f"same {len(rates)} learning rates with the same {len(search_seeds)} seeds, none of them a final seed. "
        f"Plot: {options.out}"
    )


if __name__ == "__main__":
    main()
