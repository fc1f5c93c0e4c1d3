"""Run the analysis over the zoo and hold it against the truth.

    python -m tests.zoo.run --kind timm --models resnet50_gn,xcit_nano_12_p8_224 --json out.json
    python -m tests.zoo.run --models timm:resnet26d,hf:FOLDER --certify     any model, also one without recorded truth
    python -m tests.zoo.run --certify          also test every claim numerically, model by model
    python -m tests.zoo.run --baselines        score the usual ways to pick weights instead

Exit code 1 if a claim is false or refuted.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.zoo import truth
from tests.zoo.baselines import BASELINES
from tests.zoo.build import LIBRARIES, build, missing_library
from tests.zoo.score import Score, claims_of, load_decisions, score

_COLOURS = {"false": "bold red", "decided": "magenta", "miss": "yellow", "coarse": "cyan", "beyond": "green"}


@dataclass(frozen=True)
class Options:
    """What to do with one model; plain data, so that it can be sent to a worker process."""

    certify: bool = False
    baseline: str | None = None


def examine(model: truth.Model, options: Options = Options()) -> Score:
    """Build, analyze and score one model; what it raises becomes the score's ``error``."""
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            return _examine(model, options)
    except Exception as error:  # the harness has to survive every model
        empty = score(model, {})
        return replace(empty, notes=[], error=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
    finally:
        logging.disable(logging.NOTSET)
        gc.collect()


def _examine(model: truth.Model, options: Options) -> Score:
    module, args, kwargs = _built(model)
    if options.baseline is not None:
        return score(model, BASELINES[options.baseline](module))

    from autogroup.capture import capture
    from autogroup.capture.inputs import as_call, without_cache
    from autogroup.certificate import certify
    from autogroup.errors import CaptureError
    from autogroup.infer import infer

    args, kwargs = as_call(args, kwargs)
    kwargs, _ = without_cache(module, args, kwargs)
    start = time.perf_counter()
    captured = capture(module, args, kwargs)
    middle = time.perf_counter()
    report = infer(captured)
    end = time.perf_counter()
    result = score(model, claims_of(report), load_decisions().get(str(model)))
    result.verdicts = report.counts()
    result.symmetries = dict(Counter(symmetry.kind for symmetry in report.symmetries))
    result.capture_seconds, result.infer_seconds = middle - start, end - middle
    if options.certify:
        try:
            certificate = certify(module, report, args, kwargs)
        except CaptureError as error:
            result.certificate_error = " ".join(str(error).split())[:400]
            return result
        result.certificate = certificate.counts()
        result.refuted = [f"{proof.name} ({proof.worst:.1e})" for proof in certificate.refuted]
    return result


def _built(model: truth.Model) -> tuple[Any, Any, Any]:
    """Build a model with example inputs: as the truth was made, or, for a folder with a config, as a user would."""
    if model.answers or model.kind != "hf":
        return build(model.kind, model.name)

    from autogroup.capture.inputs import guess_inputs
    from autogroup.load import load

    module = load(str(model)).model
    assert module is not None
    return module, *guess_inputs(module)[:2]


def examine_all(
    models: Iterable[truth.Model],
    options: Options = Options(),
    jobs: int = 1,
) -> Iterator[Score]:
    """Yield one score per model, in any order if there are several jobs."""
    if jobs == 1:
        yield from (examine(model, options) for model in models)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
        yield from pool.imap_unordered(partial(examine, options=options), models)


@dataclass(frozen=True)
class Totals:
    """Sums over models; ratios are fractions, 1.0 if there was nothing to find."""

    scores: tuple[Score, ...]

    def _sum(self, value: Callable[[Score], int | float]) -> float:
        return sum(value(score) for score in self.scores if not score.error)

    def _share(self, part: Callable[[Score], int], whole: Callable[[Score], int]) -> float:
        total = self._sum(whole)
        return self._sum(part) / total if total else 1.0

    @property
    def analyzed(self) -> float:
        return sum(not s.error for s in self.scores) / max(1, len(self.scores))

    @property
    def false(self) -> int:
        return int(self._sum(lambda s: s.count("false")))

    @property
    def recall(self) -> float:
        """Share of the invariant parameters that are claimed, in the models that could be analyzed."""
        return self._share(lambda s: s.found, lambda s: s.invariant)

    @property
    def exact(self) -> float:
        """Share of the invariant parameters that are claimed over the finest blocks."""
        return self._share(lambda s: s.exact + s.count("beyond"), lambda s: s.invariant)

    @property
    def partial_recall(self) -> float:
        return self._share(lambda s: s.partial_found, lambda s: s.partial)

    def to_dict(self) -> dict[str, Any]:
        times = sorted(s.capture_seconds for s in self.scores if not s.error)
        inference = sorted(s.infer_seconds for s in self.scores if not s.error)
        return {
            "models": len(self.scores),
            "analyzed": self.analyzed,
            "false": self.false,
            "decided": int(self._sum(lambda s: s.count("decided"))),
            "claims": int(self._sum(lambda s: s.claims)),
            "invariant": int(self._sum(lambda s: s.invariant)),
            "recall": self.recall,
            "exact": self.exact,
            "partial_recall": self.partial_recall,
            "with_unknown": sum("unknown" in s.verdicts for s in self.scores) / max(1, len(self.scores)),
            "joint": int(self._sum(lambda s: s.verdicts.get("joint", 0))),
            "joint_scale": int(self._sum(lambda s: s.symmetries.get("joint scale", 0))),
            "rescale": int(self._sum(lambda s: s.symmetries.get("rescale", 0))),
            "refuted": int(self._sum(lambda s: len(s.refuted))),
            "proved": int(self._sum(lambda s: s.certificate.get("proved", 0))),
            "undecided": int(self._sum(lambda s: s.certificate.get("undecided", 0))),
            "median_capture_seconds": times[len(times) // 2] if times else 0.0,
            "median_infer_seconds": inference[len(inference) // 2] if inference else 0.0,
        }


def model_table(scores: Iterable[Score]) -> Table:
    """One row per model."""
    table = Table(title="Zoo", header_style="bold")
    for column in (
        "model",
        "sound",
        "claims",
        "found",
        "exact",
        "partial",
        "joint",
        "symmetries",
        "capture s",
        "infer s",
        "certificate",
    ):
        table.add_column(column, justify="left" if column == "model" else "right")
    for one in sorted(scores, key=lambda s: s.model):
        if one.error:
            table.add_row(one.model, "[bold red]error[/]", *[""] * 9)
            continue
        false = one.count("false")
        table.add_row(
            one.model,
            f"[bold red]{false} false[/]" if false else "[green]yes[/]",
            str(one.claims),
            f"{one.found}/{one.invariant}",
            f"{one.exact}/{one.invariant}",
            f"{one.partial_found}/{one.partial}" if one.partial else "",
            str(one.verdicts.get("joint", "")),
            str(sum(one.symmetries.values())),
            f"{one.capture_seconds:.2f}",
            f"{one.infer_seconds:.2f}",
            f"[bold red]{len(one.refuted)} refuted[/]" if one.refuted else _counts(one.certificate),
        )
    return table


def _counts(certificate: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in certificate.items() if count)


def print_findings(scores: Iterable[Score], console: Console, limit: int) -> None:
    """Print every error and every parameter on which claim and truth differ, at most ``limit`` per model and kind."""
    for one in sorted(scores, key=lambda s: s.model):
        if one.error:
            console.print(f"[bold red]error[/]   {one.model}: {one.error}", markup=True, highlight=False)
        if one.certificate_error:
            console.print(f"uncertified {one.model}: {one.certificate_error}", markup=False, highlight=False)
        for parameter in one.refuted:
            console.print(f"[bold red]refuted[/] {one.model} {parameter}", highlight=False)
        for kind, colour in _COLOURS.items():
            notes = [note for note in one.notes if note.kind == kind]
            for note in notes[:limit]:
                text = f"{one.model} {note.parameter}: expected {note.expected}, got {note.got}: {note.reason}"
                console.print(f"[{colour}]{kind:7}[/]", end=" ")
                console.print(text, markup=False, highlight=False)
            if len(notes) > limit:
                console.print(f"[{colour}]{kind:7}[/] {one.model}: and {len(notes) - limit} more", highlight=False)


def print_totals(title: str, totals: Totals, console: Console) -> None:
    """Print the sums."""
    table = Table(title=title, show_header=False)
    for key, value in totals.to_dict().items():
        share = key in ("analyzed", "recall", "exact", "partial_recall", "with_unknown")
        shown = f"{value:.2%}" if share else f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), shown)
    console.print(table)


def available(models: Iterable[truth.Model], console: Console) -> list[truth.Model]:
    """Drop the models whose library is missing, saying so."""
    found = list(models)
    for kind in LIBRARIES:
        reason = missing_library(kind)
        count = sum(model.kind == kind for model in found)
        if reason and count:
            console.print(f"[yellow]{count} models of kind {kind} are skipped: {reason}[/]")
    return [model for model in found if not missing_library(model.kind)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", choices=LIBRARIES, action="append", default=[], help="only this kind; may repeat")
    parser.add_argument("--models", default="", help="only these, separated by commas; KIND:NAME for any model")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--json", type=Path, help="also write all scores to this file")
    parser.add_argument("--certify", action="store_true", help="also test every claim numerically")
    parser.add_argument("--baselines", action="store_true", help="score baselines instead of the analysis")
    parser.add_argument("--limit", type=int, default=20, help="findings printed per model and kind (20)")
    parser.add_argument("--no-table", action="store_true", help="print findings and totals only")
    given = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=150)
    names = tuple(filter(None, given.models.split(",")))
    models = available(truth.load(tuple(given.kind), names), console)
    if not models:
        console.print("[bold red]no such model in the truth file[/]")
        return 2
    runs = (
        {name: Options(baseline=name) for name in BASELINES}
        if given.baselines
        else {"autogroup": Options(certify=given.certify)}
    )
    results = {}
    for title, options in runs.items():
        scores = _with_progress(models, options, given.jobs, title, console)
        totals = results[title] = Totals(tuple(scores))
        if not given.baselines:
            if not given.no_table:
                console.print(model_table(scores))
            print_findings(scores, console, given.limit)
        print_totals(title, totals, console)
    if given.json:
        data = {title: {**t.to_dict(), "scores": [s.to_dict() for s in t.scores]} for title, t in results.items()}
        given.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    bad = [t for t in results.values() if t.false or t.to_dict()["refuted"]]
    return 1 if bad and not given.baselines else 0


def _with_progress(models: list[truth.Model], options: Options, jobs: int, title: str, console: Console) -> list[Score]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    scores: list[Score] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=len(models))
        for one in examine_all(models, options, jobs):
            scores.append(one)
            progress.update(task, advance=1, description=one.model)
    return scores


if __name__ == "__main__":
    sys.exit(main())
