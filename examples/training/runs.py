"""Runs in their folders: start one, resume one, train it with a progress bar until it ends or is interrupted."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training import checkpoint, curves, history, show
from training.checkpoint import restore, save
from training.distributed import Place
from training.files import write
from training.loop import train_epoch
from training.run import Run, prepare
from training.settings import Settings, UsageError

SETTINGS = "run.json"
FILES = (SETTINGS, checkpoint.FILE, history.EPOCHS, history.LAYERS, curves.FILE)


def free_folder(parent: Path, name: str) -> Path:
    """Return ``parent/name``, or with the first number from 2 on that makes it new."""
    candidates = [parent / name, *(parent / f"{name}-{i}" for i in range(2, 10_000))]
    return next(folder for folder in candidates if not folder.exists())


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse to write over files.

    Raises:
        UsageError: a run is there and ``overwrite`` is not set, or files of the same name that are no run.
    """
    present = [name for name in FILES if (folder / name).exists()]
    if SETTINGS in present and not overwrite:
        raise UsageError(f"{folder} already holds a run: --resume {folder} goes on with it, --overwrite deletes it")
    if present and SETTINGS not in present:
        raise UsageError(f"{folder} holds {', '.join(present)}, but no run ({SETTINGS}): choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out needs a folder")


def start(settings: Settings, folder: Path, place: Place, overwrite: bool = False, download: bool = False) -> Run:
    """Begin a run in a folder; what was there is deleted only when the new run could be built."""
    check_folder(folder, overwrite)
    run = prepare(settings, place, download)
    if place.leads:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        write(folder / SETTINGS, json.dumps(settings.to_dict(), indent=2).encode())
    place.wait()
    return run


def resume(folder: Path, place: Place, **changes: Any) -> Run:
    """Return the run of a folder at its last checkpoint.

    Args:
        folder: holds a run.
        place: where it goes on; with another number of processes it does so too, but not bit for bit.
        **changes: settings that do not change the result, such as ``data`` or ``workers``.

    Raises:
        UsageError: there is no run, or its checkpoint cannot be read.
    """
    if not (folder / SETTINGS).exists():
        raise UsageError(f"{folder} holds no run ({SETTINGS} is missing)")
    run = prepare(replace(Settings.load(folder), **changes), place)
    if (folder / checkpoint.FILE).exists():  # else it stopped before the first one, and starts anew
        restore(run, folder)
    return run


def train(
    run: Run, folder: Path, console: Console, save_every: int = 0, stop: Callable[[Run], bool] | None = None
) -> bool:
    """Train a run to its end.

    Args:
        run: new or resumed.
        folder: where checkpoints and logs go, after every epoch.
        console: where progress is shown.
        save_every: also write a checkpoint after so many steps of an epoch; 0 does not.
        stop: asked after every step whether to stop, as an interruption would.

    Returns:
        Whether the run is finished; if not, it was interrupted and a checkpoint is there.
    """
    epochs = run.settings.epochs
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    bar = Progress(*columns, console=console, transient=True, disable=not run.place.leads)
    with bar, interruptions(run.place) as interrupted:
        task = bar.add_task("", total=epochs * run.steps, completed=run.epoch * run.steps + run.step)

        def after_step() -> bool:
            bar.advance(task)
            if save_every and run.step % save_every == 0:
                save(run, folder)
            return interrupted() or (stop is not None and stop(run))

        while not run.finished:
            bar.update(task, description=f"{run.settings.name} {run.epoch + 1}/{epochs}")
            complete = train_epoch(run, after_step)
            save(run, folder)
            if not complete:
                return False
            if run.place.leads:
                bar.console.print(show.epoch_line(run.history.epochs[-1], epochs), highlight=False)
    return True


@contextmanager
def interruptions(place: Place) -> Generator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that the loop asks between steps; a second one acts at once.

    Several processes would have to stop at the same step: there torchrun ends them, and the last checkpoint counts.
    """
    caught: list[int] = []
    if place.ranks > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore_handlers() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def handle(number: int, frame: object) -> None:
        del frame
        caught.append(number)
        restore_handlers()

    for number in usual:
        signal.signal(number, handle)
    try:
        yield lambda: bool(caught)
    finally:
        restore_handlers()
