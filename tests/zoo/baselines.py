"""What people do today: pick weights by name or by the number of axes, one block per output channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from autogroup.partition import Partition
from tests.zoo.score import Claim

_CONV_NAMES = re.compile(r"conv|downsample\.0")


def _choose(model: nn.Module, wanted: Callable[[str, Tensor], bool]) -> dict[str, Claim]:
    def claim(name: str, weight: Tensor) -> Claim:
        if not wanted(name, weight):
            return Claim(None, "variant")
        return Claim(Partition.from_dims(tuple(weight.shape), (0,)), "invariant")

    return {name: claim(name, weight) for name, weight in model.named_parameters()}


def by_name(model: nn.Module) -> dict[str, Claim]:
    """Weights whose name says convolution, as the readme of the reference AdamSRT code suggests."""
    return _choose(model, lambda name, weight: bool(_CONV_NAMES.search(name)) and weight.dim() > 1)


def by_four_axes(model: nn.Module) -> dict[str, Claim]:
    """Weights with four axes."""
    return _choose(model, lambda _, weight: weight.dim() == 4)


def by_two_axes(model: nn.Module) -> dict[str, Claim]:
    """Weights with at least two axes."""
    return _choose(model, lambda _, weight: weight.dim() >= 2)


BASELINES: Mapping[str, Callable[[nn.Module], dict[str, Claim]]] = {
    "name: conv|downsample.0": by_name,
    "ndim == 4": by_four_axes,
    "ndim >= 2": by_two_axes,
}
