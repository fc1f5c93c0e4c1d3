"""What is printed: a table of runs, and the lists of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from optimizers import list_optimizers, list_wrappers
from training.history import History
from training.models import MODELS
from training.optimizer import torch_optimizers
from training.presets import PRESETS
from training.settings import DATASETS, SCHEDULES


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Return one line about an epoch."""
    return (
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  loss {row['train_loss']:.4f} (test {row['test_loss']:.4f})"
        f"  accuracy {row['accuracy']:.2f} %  {1000 * row['seconds_per_step']:.1f} ms/step"
    )


def results(runs: Mapping[str, History | str]) -> Table:
    """Return a table with the last epoch of every run; for one that failed, its message."""
    table = Table(title="Results", title_justify="left", box=box.SIMPLE)
    table.add_column("run", overflow="fold")
    for column in ("epochs", "test %", "best %", "test loss", "train loss", "ms/step"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, history in runs.items():
        if isinstance(history, str):
            table.add_row(label, history)
            continue
        last = history.epochs[-1]
        table.add_row(
            label,
            str(last["epoch"]),
            f"{last['accuracy']:.2f}",
            f"{max(row['accuracy'] for row in history.epochs):.2f}",
            f"{last['test_loss']:.4f}",
            f"{last['train_loss']:.4f}",
            f"{1000 * sum(row['seconds_per_step'] for row in history.epochs) / len(history.epochs):.1f}",
        )
    return table


def names() -> Table:
    """Return all names that the command line knows."""
    table = Table(box=box.SIMPLE, show_header=False)
    kinds = {
        "--dataset": DATASETS,
        "--model": MODELS,
        "--optimizer": list_optimizers(),
        "of torch.optim": torch_optimizers(),
        "--wrap": [name for name in list_wrappers() if name != "pcgrad"],
        "--schedule": SCHEDULES,
    }
    for kind, found in kinds.items():
        table.add_row(kind, ", ".join(found))
    for name, preset in PRESETS.items():
        table.add_row("--preset", f"{name}  [dim]{preset.source}{f' ({preset.note})' if preset.note else ''}[/]")
    return table
