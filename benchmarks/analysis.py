"""How long the analysis takes, how it grows with depth, and what a model of 70 billion parameters needs.

Run ``python -m benchmarks.analysis`` from the repository root; ``--json FILE`` also writes the numbers.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from autogroup.capture import capture
from autogroup.infer import infer
from benchmarks.models import LLAMA_70B, Decoder, DecoderConfig, resnet50

DEPTHS = (12, 24, 48, 96)
MEMORY_BUDGET_GB = 2.0

TIMM_MODELS = (
    "resnet50d",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_base_patch16_224",
    "swinv2_tiny_window8_256",
    "mobilenetv3_large_100",
    "densenet121",
    "maxvit_tiny_rw_224",
)
TORCHVISION_MODELS = ("resnet50", "shufflenet_v2_x1_0", "inception_v3", "googlenet", "regnet_y_400mf", "swin_t")


@dataclass(frozen=True)
class Timing:
    """One model: CPU seconds to capture and to infer on one thread, and what was found."""

    model: str
    parameters: int
    nodes: int
    capture_s: float
    infer_s: float
    invariant: int

    @property
    def ratio(self) -> float:
        """Seconds of inference per second of capture."""
        return self.infer_s / self.capture_s


def measure(name: str, model: nn.Module, args: tuple[Any, ...], repeats: int = 3) -> Timing:
    """Capture and analyze a model ``repeats`` times and keep the fastest of each."""
    captures: list[float] = []
    infers: list[float] = []
    graph = report = None
    for _ in range(repeats):
        graph = report = None
        gc.collect()
        start = time.process_time()
        graph = capture(model, args, {}, mode="train")
        middle = time.process_time()
        report = infer(graph)
        captures.append(middle - start)
        infers.append(time.process_time() - middle)
    assert graph is not None and report is not None
    return Timing(
        model=name,
        parameters=sum(p.numel() for p in model.parameters()),
        nodes=len(graph.graph.nodes),
        capture_s=min(captures),
        infer_s=min(infers),
        invariant=report.counts().get("invariant", 0),
    )


def zoo() -> Iterator[tuple[str, Callable[[], nn.Module], tuple[Any, ...]]]:
    """Yield (name, builder, args) of the models whose library is installed. Weights are random."""
    yield "resnet50 (plain torch)", resnet50, (torch.zeros(2, 3, 224, 224),)
    yield "decoder, 12 layers (plain torch)", lambda: Decoder(DecoderConfig()), (tokens(),)
    if find_spec("torchvision"):
        from tests.zoo.torchvision_ops import declare

        declare()  # torchvision's wheel lacks two operators on a CPU build of torch
        models = import_module("torchvision.models")
        for name in TORCHVISION_MODELS:
            size = 299 if name == "inception_v3" else 224
            build = getattr(models, name)
            keywords = {"init_weights": False} if name in {"inception_v3", "googlenet"} else {}
            yield f"torchvision {name}", lambda b=build, k=keywords: b(**k), (torch.zeros(2, 3, size, size),)
    if find_spec("timm"):
        timm = import_module("timm")
        for name in TIMM_MODELS:
            size = 256 if name.endswith("256") else 224
            yield f"timm {name}", lambda n=name: timm.create_model(n), (torch.zeros(2, 3, size, size),)


def tokens(device: str = "cpu") -> torch.Tensor:
    """Token ids ``[2, 64]``."""
    return torch.zeros(2, 64, dtype=torch.long, device=device)


def bench_models(smoke: bool) -> Iterator[Timing]:
    """Time the plain models and, unless ``smoke``, the installed libraries' models."""
    for index, (name, build, args) in enumerate(zoo()):
        if smoke and index >= 2:
            return
        yield measure(name, build(), args, repeats=1 if smoke else 3)


def bench_depth(smoke: bool) -> Iterator[Timing]:
    """Time decoders that differ only in depth."""
    for layers in (2, 4) if smoke else DEPTHS:
        model = Decoder(replace(DecoderConfig(), layers=layers))
        yield measure(f"decoder, {layers} layers", model, (tokens(),), repeats=1 if smoke else 3)


def resident_gb(field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in GB (10⁹ bytes)."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux: the peak is all there is, in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e9


def large_model(smoke: bool) -> dict[str, Any]:
    """Analyze the 70-billion-parameter decoder on the meta device; run it in a process of its own."""
    torch.set_num_threads(1)
    config = replace(LLAMA_70B, layers=2) if smoke else LLAMA_70B
    measure("warm-up", Decoder(replace(DecoderConfig(), layers=1)), (tokens(),), repeats=1)
    with torch.device("meta"):
        model = Decoder(config)
    before = resident_gb("VmRSS")
    timing = measure("70-billion-parameter decoder (meta device)", model, (tokens("meta"),), repeats=1)
    return asdict(timing) | {"rss_growth_gb": resident_gb("VmHWM") - before}


def in_fresh_process(smoke: bool) -> dict[str, Any]:
    """Run ``large_model`` where nothing else has allocated memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(large_model, (smoke,))


def timing_table(title: str, rows: list[Timing]) -> Table:
    """Lay the timings out; CPU seconds, the fastest of the repeats."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("model")
    for column in ("parameters", "graph nodes", "invariant", "capture s", "infer s", "infer / capture"):
        table.add_column(column, justify="right")
    for row in rows:
        numbers = (f"{row.parameters:,}", f"{row.nodes:,}", f"{row.invariant:,}")
        table.add_row(row.model, *numbers, f"{row.capture_s:.2f}", f"{row.infer_s:.2f}", f"{row.ratio:.2f}")
    return table


def per_layer(rows: list[Timing]) -> list[float]:
    """Return inference seconds per layer relative to the shallowest model: 1.0 everywhere if growth is linear."""
    layers = [int(row.model.split(",")[1].split()[0]) for row in rows]
    return [row.infer_s / n / (rows[0].infer_s / layers[0]) for row, n in zip(rows, layers, strict=True)]


def main() -> int:
    """Run the parts asked for, print the tables, write the JSON file; 1 if the memory budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("models", "depth", "large")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(parts)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers here")
    parser.add_argument("--smoke", action="store_true", help="a few seconds instead of minutes")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    wanted = options.parts or parts
    torch.set_num_threads(1)
    console = Console()
    result: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    status = 0

    if "models" in wanted:
        rows = list(bench_models(options.smoke))
        median = statistics.median(row.ratio for row in rows)
        console.print(timing_table("Capture and inference, CPU seconds on one thread", rows))
        console.print(f"median infer / capture over {len(rows)} models: {median:.2f}\n")
        result["models"] = {"rows": [asdict(row) for row in rows], "median_infer_over_capture": median}

    if "depth" in wanted:
        rows = list(bench_depth(options.smoke))
        relative = per_layer(rows)
        console.print(timing_table("Growth with depth", rows))
        console.print("inference per layer, relative to the first row: " + ", ".join(f"{r:.2f}" for r in relative))
        console.print()
        result["depth"] = {"rows": [asdict(row) for row in rows], "infer_per_layer_relative": relative}

    if "large" in wanted:
        large = in_fresh_process(options.smoke)
        console.print(timing_table("On the meta device", [Timing(**{k: large[k] for k in Timing.__annotations__})]))
        growth = large["rss_growth_gb"]
        console.print(f"peak memory growth: {growth:.2f} GB (budget {MEMORY_BUDGET_GB:.0f} GB)")
        result["large"] = large
        status = int(growth > MEMORY_BUDGET_GB)

    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
