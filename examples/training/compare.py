"""Several runs side by side: those that are there are read, the others are trained first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from training import runs
from training.distributed import Place, check
from training.history import History
from training.loop import DivergedError
from training.optimizer import optimizer_class, split_options
from training.presets import PRESETS
from training.settings import Settings, UsageError, flag


def planned(
    names: list[str], given: Mapping[str, Any], merge: Callable[[Mapping[str, Any]], Settings]
) -> dict[str, Settings | Path]:
    """Return what each name stands for: the folder of a run, or the settings of one to train.

    Args:
        names: folders of runs, presets and optimizers.
        given: settings from the command line, for all runs that are trained.
        merge: turns them into full settings.

    Raises:
        UsageError: a name is none of these, or is there twice, or the settings do not fit it.
    """
    plan: dict[str, Settings | Path] = {}
    for name in names:
        if name in plan:
            raise UsageError(f"--compare names {name} twice")
        if (Path(name) / runs.SETTINGS).exists():
            plan[name] = Path(name)
            continue
        if Path(name).is_dir():
            raise UsageError(f"--compare: the folder {name} holds no run ({runs.SETTINGS} is missing)")
        if name not in PRESETS:
            try:
                optimizer_class(name)
            except UsageError as error:
                raise UsageError(f"--compare: {name} is no folder with a run and no preset, and {error}") from None
        settings = merge({**given, "preset" if name in PRESETS else "optimizer": name})
        split_options(settings)
        plan[name] = settings
    return plan


def reusable(settings: Settings, folder: Path) -> bool:
    """Whether a run with the same settings is in the folder.

    Raises:
        UsageError: it has other settings.
    """
    if not (folder / runs.SETTINGS).exists():
        return False
    stored, wanted = Settings.load(folder).to_dict(), settings.to_dict()
    differ = [flag(f.name) for f in fields(Settings) if stored[f.name] != wanted[f.name]]
    if differ:
        raise UsageError(
            f"{folder} holds a run with other settings ({', '.join(differ)}): choose another --out, or --overwrite it"
        )
    return True


def compare(
    plan: Mapping[str, Settings | Path], out: Path, place: Place, console: Console, overwrite: bool, save_every: int
) -> dict[str, History | str]:
    """Train what is missing, and return the history of every run, or the message of one that diverged.

    Args:
        plan: from `planned`.
        out: folder of the folders of the runs that are trained.
        place: where to train.
        console: where progress is shown.
        overwrite: train again what is there with other settings.
        save_every: see ``runs.train``.
    """
    todo: dict[str, tuple[Settings, Path, bool]] = {}
    for name, what in plan.items():
        if isinstance(what, Settings):
            check(what, place)
            folder = out / name.replace("/", "-")
            todo[name] = (what, folder, not overwrite and reusable(what, folder))
    found: dict[str, History | str] = {}
    for name, what in plan.items():
        if isinstance(what, Path):
            found[name] = History.load(what)
            continue
        settings, folder, present = todo[name]
        run = runs.resume(folder, place) if present else runs.start(settings, folder, place, overwrite)
        try:
            if not runs.train(run, folder, console, save_every):
                raise UsageError(f"interrupted in {name}; the same command goes on from there")
            found[name] = run.history
        except DivergedError as error:
            found[name] = str(error)
    return found
