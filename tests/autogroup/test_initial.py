"""Where the analysis of a parameter starts."""

import pytest
import torch
from torch import nn

from autogroup.api import analyze
from autogroup.errors import CaptureError
from autogroup.infer import initial


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(80, 90))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x * self.weight, (90,), eps=0.0)


def test_a_very_large_parameter_starts_with_coarser_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for most in (1 << 26, 100):
        monkeypatch.setattr(initial, "MAX_BLOCKS", most)
        weight = analyze(Masked(), (torch.randn(2, 80, 90),)).parameters["weight"]
        found.append((weight.verdict, weight.channel_dims))
    assert found == [("invariant", (0,))] * 2


def test_an_axis_longer_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "MAX_BLOCKS", 85)
    with pytest.raises(CaptureError, match=r"shape \[80, 90\] has an axis longer than the 85 entries"):
        analyze(Masked(), (torch.randn(2, 80, 90),))
