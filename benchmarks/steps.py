"""How long one step takes: each optimizer beside torch's fused Adam, pytorch_optimizer, and the limit of the memory.

Run ``python -m benchmarks.steps`` from the repository root. ``--set`` and ``--optimizer`` choose, ``--json FILE`` and
``--plot FILE`` keep the result. On a machine with a GPU, ``--device cuda`` times there.

The limit is the time to read p, g and the state once and to write p and the state once, at the bandwidth of a large
copy measured in the same run. All ratios compare times of the same round, one after the other.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

import optimizers
from benchmarks.parameter_sets import SETS, ParameterSet
from benchmarks.stopwatch import bandwidth, interleaved

NEEDS_MORE = ("adahessian",)
"""Not timed: their steps differentiate gradients, which have no graph here."""
PEERS = (
    *("adabelief", "adabound", "adamp", "adapnm", "diffgrad", "lamb", "madgrad", "nero", "pnm", "radam", "ranger"),
    *("ranger21", "sgdp", "shampoo"),
)
"""The algorithms that pytorch_optimizer has too, under the same names."""
WARM_UP = 6
"""Steps before the first that is timed: RAdam and its relatives have begun to rectify then."""


@dataclass(frozen=True)
class Row:
    """One optimizer on one set of parameters."""

    set: str
    optimizer: str
    seconds: float
    spread: float
    to_fused_adam: float
    to_limit: float
    first_step_s: float
    state_bytes_per_element: float
    extra_mb: float
    """Largest sum of what a step allocates besides parameters and state, in MB; -1 on other devices than the CPU."""


def build(name: str, impl: str, chosen: ParameterSet, device: str) -> Optimizer:
    """Return an optimizer of this package with groups for the set."""
    info = optimizers.get_supported_optimizers(name)[name]
    params = chosen.parameters(device)
    options = {"num_iterations": 1000} if name == "ranger21" else {}
    return info.cls(chosen.groups(params) if info.uses_channel_dims else params, **options, impl=impl)  # type: ignore[call-arg]


def build_peer(name: str, chosen: ParameterSet, device: str) -> Optimizer:
    """Return the optimizer of that name of pytorch_optimizer."""
    from pytorch_optimizer import load_optimizer

    options: dict[str, Any] = {"num_iterations": 1000} if name == "ranger21" else {}
    return load_optimizer(name)(chosen.parameters(device), **options)


def contenders(names: Sequence[str], impls: Sequence[str], chosen: ParameterSet, device: str) -> dict[str, Any]:
    """Return a builder for everything that is timed on a set, by name."""
    found: dict[str, Callable[[], Optimizer]] = {
        "torch Adam, fused": lambda: torch.optim.Adam(chosen.parameters(device), fused=True),
        "torch Adam, foreach": lambda: torch.optim.Adam(chosen.parameters(device), foreach=True),
    }
    for name in names:
        cls = optimizers.load_optimizer(name)
        for impl in impls:
            if impl in ("auto", *getattr(cls, "impls", ())):
                found[f"{cls.__name__}, {impl}"] = lambda n=name, i=impl: build(n, i, chosen, device)
        if name in PEERS and find_spec("pytorch_optimizer"):
            found[f"{cls.__name__}, pytorch_optimizer"] = lambda n=name: build_peer(n, chosen, device)
    return found


def measure(
    builders: Mapping[str, Callable[[], Optimizer]], chosen: ParameterSet, rounds: int, device: str
) -> list[Row]:
    """Time the steps of all optimizers, each beside torch's fused Adam."""
    first_name, *others = builders
    peer = _warm(builders[first_name])[0]
    speed = bandwidth(device)
    rows: list[Row] = []
    for name in (first_name, *others):
        optimizer, first_step = _warm(builders[name])
        calls = {"peer": peer.step, "own": optimizer.step}
        times = interleaved(calls, rounds, device)
        state = _state_bytes(optimizer)
        # p and g are read, p is written; the state is both.
        limit = (3 * 4 * chosen.elements + 2 * state) / speed
        rows.append(
            Row(
                chosen.name,
                name,
                times["own"].median,
                times["own"].spread,
                times["own"].ratio(times["peer"]),
                times["own"].median / limit,
                first_step,
                state / chosen.elements,
                _extra_mb(optimizer) if device == "cpu" else -1.0,
            )
        )
        del optimizer, calls
        gc.collect()
    return rows


def _warm(builder: Callable[[], Optimizer]) -> tuple[Optimizer, float]:
    optimizer = builder()
    start = time.perf_counter()
    optimizer.step()
    first = time.perf_counter() - start
    for _ in range(WARM_UP - 1):
        optimizer.step()
    return optimizer, first


def _state_bytes(optimizer: Optimizer) -> int:
    tensors = (x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor))
    return sum(prod(x.shape) * x.itemsize for x in tensors)


def _extra_mb(optimizer: Optimizer) -> float:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        optimizer.step()
    events: Any = recorded.profiler
    held = peak = 0
    for event in events.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    result = Table(box=box.SIMPLE, title=rows[0].set)
    result.add_column("optimizer", no_wrap=True)
    for head in ("ms", "± ms", "× fused Adam", "× memory limit", "first step, s", "state B/element", "extra MB"):
        result.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        numbers = (row.seconds * 1e3, row.spread * 1e3, row.to_fused_adam, row.to_limit, row.first_step_s)
        cells = [f"{x:.2f}" for x in numbers]
        extra = f"{row.extra_mb:.1f}" if row.extra_mb >= 0 else "-"
        result.add_row(row.optimizer, *cells, f"{row.state_bytes_per_element:.1f}", extra)
    return result


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the times relative to fused Adam as bars, one panel per set."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row.set for row in rows))
    tallest = max(sum(row.set == name for row in rows) for name in names)
    size = (5 * len(names), 1 + 0.25 * tallest)
    figure, axes = plt.subplots(1, len(names), squeeze=False, figsize=size, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        chosen = sorted((row for row in rows if row.set == name), key=lambda row: -row.to_fused_adam)
        axis.barh([row.optimizer for row in chosen], [row.to_fused_adam for row in chosen])
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(title=name, xlabel="time of a step / torch fused Adam", xscale="log")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    known = [name for name in optimizers.list_optimizers() if name not in NEEDS_MORE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=tuple(SETS), help="default: resnet50")
    parser.add_argument("--optimizer", action="append", choices=known, metavar="NAME", help="default: all")
    parser.add_argument(
        "--impl", action="append", choices=("auto", "loop", "foreach", "compiled"), help="default: auto"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")  # of the peers
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler, which counts memory, is chatty
    rows: list[Row] = []
    for name in arguments.set or ["resnet50"]:
        builders = contenders(arguments.optimizer or known, arguments.impl or ["auto"], SETS[name], arguments.device)
        found = measure(builders, SETS[name], arguments.rounds, arguments.device)
        Console(width=120).print(table(found))
        rows += found
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
