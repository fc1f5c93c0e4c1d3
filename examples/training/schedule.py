"""Learning-rate schedules: each is a factor of the first rate, as a function of the update."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from optimizers.schedules import knee
from training.settings import Settings

EXPLORE = 0.5
"""Share of the updates at the full rate in ``knee``, as recommended in arXiv 2003.03977."""


def factor(settings: Settings, schedule: str, t: int, steps_per_epoch: int) -> float:
    """Return the factor of the update after ``t`` updates: linear warm-up, then the schedule over what is left."""
    warmup = round(settings.warmup * steps_per_epoch)
    total = settings.epochs * steps_per_epoch
    if t < warmup:
        return (t + 1) / warmup
    if schedule == "cosine":
        return (1 + math.cos(math.pi * (t - warmup) / max(1, total - warmup))) / 2
    if schedule == "step":
        return settings.gamma ** sum(t >= epoch * steps_per_epoch for epoch in settings.milestones)
    if schedule == "knee":
        return knee(t + 1, 1.0, warmup, int(EXPLORE * (total - warmup)), total + 1)
    return 1.0


def build_schedule(settings: Settings, optimizer: Optimizer, schedule: str, steps_per_epoch: int) -> LambdaLR:
    """Return the scheduler; call its ``step`` after every update."""
    return LambdaLR(optimizer, lambda t: factor(settings, schedule, t, steps_per_epoch))
