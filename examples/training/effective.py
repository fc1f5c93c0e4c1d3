r"""The effective learning rate of every scale-invariant weight: how far a step turns it.

Where the loss does not depend on the length of a block :math:`w`, only its direction :math:`u = w / \|w\|` is trained,
and the step of an optimizer counts by the angle between the directions before and after it:

.. math::
    \alpha_t = \angle(u_t, u_{t+1}) = 2 \arcsin\left(\tfrac12 \|u_{t+1} - u_t\|\right)

in radians. It has a meaning for every optimizer. For plain SGD, :math:`\alpha_t = \frac{\eta}{\|w\|^2}
\|\nabla_u L\|` to first order, so that :math:`\eta / \|w\|^2` is the rate at which u moves along its own gradient
(arXiv 2006.13382, section 2); that number is recorded beside the angle.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autogroup import Report
from training.distributed import whole

SAMPLES = 10
"""Steps per epoch that are measured, evenly spaced."""


def blocks(w: Tensor, dims: tuple[int, ...], groups: int | None) -> Tensor:
    """Return a weight as a matrix with one row per block: ``[8, 3, 5, 5]``, dims (0,), 4 groups → ``[4, 150]``."""
    w = w.movedim(dims, tuple(range(len(dims))))
    if groups is not None:
        w = w.unflatten(0, (groups, -1)).movedim(1, -1)
    count = w.shape[: len(dims)].numel()
    return w.reshape(count, -1)


def angles(before: Tensor, after: Tensor) -> Tensor:
    """Return the angle between each row of two matrices, in radians; accurate for small ones."""
    chord = nn.functional.normalize(after.double()) - nn.functional.normalize(before.double())
    return 2 * torch.asin((chord.norm(dim=1) / 2).clamp(max=1))


class EffectiveRate:
    """Measures some steps of each epoch, and averages over them and over the blocks of a weight."""

    def __init__(self, report: Report, model: nn.Module, steps: int) -> None:
        found = {name: p for name, p in report.parameters.items() if p.channel_dims is not None}
        named = dict(model.named_parameters())
        self.weights = {name: (named[name], p.channel_dims or (), p.channel_groups) for name, p in found.items()}
        self.every = max(1, steps // SAMPLES)
        self.sums: dict[str, list[float]] = {}
        self.before: dict[str, Tensor] = {}

    def start(self, step: int) -> None:
        """Remember the weights before a step, if it is one of those measured."""
        self.before = {name: self._rows(name) for name in self.weights} if step % self.every == 0 else {}

    def end(self, rates: dict[str, float]) -> None:
        """Compare with the weights after the step.

        Args:
            rates: learning rate of each weight in that step.
        """
        for name, before in self.before.items():
            angle = angles(before, self._rows(name)).mean().item()
            ratio = rates[name] / before.double().square().sum(1).mean().clamp(min=1e-30).item()
            total = self.sums.setdefault(name, [0.0, 0.0, 0.0])
            self.sums[name] = [total[0] + angle, total[1] + ratio, total[2] + 1]
        self.before = {}

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """Return the means of an epoch, one row per weight, and start anew."""
        found = [
            {"epoch": epoch, "layer": name, "angle": angle / n, "lr_over_norm2": ratio / n}
            for name, (angle, ratio, n) in self.sums.items()
        ]
        self.sums = {}
        return found

    @torch.no_grad()
    def _rows(self, name: str) -> Tensor:
        weight, dims, groups = self.weights[name]
        return blocks(whole(weight.detach()).clone(), dims, groups)
