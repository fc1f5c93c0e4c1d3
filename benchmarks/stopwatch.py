"""Times of several callables in turn, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Times:
    """Seconds of one callable in every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2

    def ratio(self, peer: Times) -> float:
        """Return the median over the rounds of this time to that of a peer in the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds, peer.seconds, strict=True))


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, Times]:
    """Call everything once per round, in turn.

    Args:
        calls: what to time, by name; each has been called before.
        rounds: at least 2.
        device: ``"cpu"``, or ``"cuda"`` to time with events of the device.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(_on_cuda(call) if device == "cuda" else _on_cpu(call))
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def _on_cpu(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _on_cuda(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def bandwidth(device: str, elements: int = 2**26) -> float:
    """Return bytes per second of a large copy: what is read plus what is written, the best of ten."""
    source = torch.zeros(elements, device=device)
    target = torch.empty_like(source)
    times = interleaved({"copy": lambda: target.copy_(source)}, 11, device)["copy"]
    return 2 * source.nbytes / min(times.seconds)
