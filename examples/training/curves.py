"""Curves as PNG: accuracy, loss, time per step and effective learning rate, of one run or several side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.files import write
from training.history import History
from training.settings import UsageError

FILE = "curves.png"


def check_matplotlib() -> None:
    """Say early that curves cannot be drawn, not after hours of training."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError(
            f"the curves need matplotlib ({error}): pip install 'autogroup[examples]', or add --no-curves"
        ) from None
    mpl.use("Agg")  # no screen needed


def draw(runs: Mapping[str, History], path: Path) -> None:
    """Draw the curves of runs.

    Args:
        runs: label → history with at least one epoch. Layers are drawn one by one for a single run, else their mean.
        path: PNG to write.
    """
    check_matplotlib()
    from matplotlib import pyplot as plt

    figure, ((accuracy, loss), (seconds, angle)) = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for i, (label, history) in enumerate(runs.items()):
        color = f"C{i % 10}"
        columns = {key: [row[key] for row in history.epochs] for key in history.epochs[0]}
        epochs = columns["epoch"]
        accuracy.plot(epochs, columns["accuracy"], color=color, label=label)
        loss.plot(epochs, columns["train_loss"], "--", color=color)
        loss.plot(epochs, columns["test_loss"], color=color, label=label)
        seconds.plot(epochs, [1000 * x for x in columns["seconds_per_step"]], color=color, label=label)
        if len(runs) > 1:
            angle.plot(*mean_over_layers(history), color=color, label=label)
        else:
            draw_layers(angle, history)
    accuracy.set(title="Test accuracy", ylabel="%")
    loss.set(title="Loss (dashed: training)", ylabel="cross entropy", yscale="log")
    seconds.set(title="Time per step", ylabel="ms", ylim=(0, None))
    angle.set(title="Effective learning rate", ylabel="angle per step, radians", yscale="log")
    for axes in (accuracy, loss, seconds, angle):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        accuracy.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    plt.close(figure)
    write(path, picture.getvalue())


def draw_layers(axes: Any, history: History) -> None:
    """Draw one line per layer, from the first (dark) to the last (bright)."""
    from matplotlib import colormaps

    layers = list(dict.fromkeys(row["layer"] for row in history.layers))
    for i, layer in enumerate(layers):
        own = [row for row in history.layers if row["layer"] == layer]
        label = layer if i in (0, len(layers) - 1) else None
        color = colormaps["viridis"](i / max(1, len(layers) - 1))
        axes.plot([row["epoch"] for row in own], [row["angle"] for row in own], color=color, label=label)
    if layers:
        axes.legend()


def mean_over_layers(history: History) -> tuple[list[int], list[float]]:
    """Return epochs and the mean angle of all layers in each."""
    angles: dict[int, list[float]] = {}
    for row in history.layers:
        angles.setdefault(row["epoch"], []).append(row["angle"])
    return list(angles), [sum(found) / len(found) for found in angles.values()]
