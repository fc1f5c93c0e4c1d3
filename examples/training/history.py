"""What a run records: one row per epoch, and one per epoch and layer, as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.files import write
from training.settings import UsageError

EPOCHS, LAYERS = "log.csv", "effective_lr.csv"
EPOCH_COLUMNS = ("epoch", "train_loss", "test_loss", "accuracy", "seconds_per_step", "lr")
LAYER_COLUMNS = ("epoch", "layer", "angle", "lr_over_norm2")
Rows = list[dict[str, Any]]


@dataclass
class History:
    """Rows of ``log.csv`` (losses, test accuracy in %, lr of the last step) and of ``effective_lr.csv``.

    The checkpoint holds them too, and the files are written from it: they never have rows that a resumed run repeats.
    """

    epochs: Rows = field(default_factory=Rows)
    layers: Rows = field(default_factory=Rows)

    def save(self, folder: Path) -> None:
        """Write both files."""
        write(folder / EPOCHS, table(self.epochs, EPOCH_COLUMNS))
        write(folder / LAYERS, table(self.layers, LAYER_COLUMNS))

    @classmethod
    def load(cls, folder: Path) -> History:
        """Read both files.

        Raises:
            UsageError: they are missing, or are not what ``save`` writes.
        """
        return cls(rows(folder / EPOCHS, EPOCH_COLUMNS), rows(folder / LAYERS, LAYER_COLUMNS))


def table(found: Rows, columns: tuple[str, ...]) -> bytes:
    """Return rows as CSV; numbers are written so that they read back the same."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue().encode()


def rows(path: Path, columns: tuple[str, ...]) -> Rows:
    """Read rows: text in ``layer``, whole numbers in ``epoch``, numbers elsewhere."""
    kinds = {"layer": str, "epoch": int}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: kinds.get(key, float)(row[key]) for key in columns} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} has no {path.name}: it is not a run of this example, or not one epoch ended"
        ) from None
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} does not have the columns {', '.join(columns)} of a log: {error}") from None
