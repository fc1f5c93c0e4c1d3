"""A run in progress, and how it is put together from its settings."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

import autogroup
from optimizers import get_supported_optimizers
from training import data, distributed
from training.data import Data
from training.distributed import Place
from training.effective import EffectiveRate
from training.history import History
from training.models import build_model
from training.optimizer import build_optimizer, innermost, schedule_of
from training.schedule import build_schedule
from training.settings import Settings, UsageError


@dataclass
class Run:
    """A run in progress.

    Attributes:
        settings: what it is.
        place: where it takes place.
        data: its images.
        model: the model, its parameters sharded with ``fsdp``.
        net: what is called: the model, or the model in DDP.
        optimizer: with its wrappers.
        scheduler: of its learning rates.
        scaler: of the loss, for ``amp="fp16"`` only.
        effective: measures the effective learning rates.
        epoch: epochs done.
        step: steps done in the present epoch.
        loss: sum of the losses of these steps.
        seconds: their time.
        lr: learning rate of the last of them.
        history: what is recorded.
    """

    settings: Settings
    place: Place
    data: Data
    model: nn.Module
    net: nn.Module
    optimizer: Optimizer
    scheduler: LambdaLR
    scaler: torch.amp.GradScaler
    effective: EffectiveRate
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    lr: float = 0.0
    history: History = field(default_factory=History)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch == self.settings.epochs

    @property
    def steps(self) -> int:
        """Updates per epoch."""
        return data.steps_per_epoch(self.data, self.settings)


def prepare(settings: Settings, place: Place, download: bool = False) -> Run:
    """Build everything a run needs.

    Raises:
        UsageError: the settings do not fit the place or each other, or files are missing.
    """
    distributed.check(settings, place)
    images = load_data(settings, place, download)
    torch.backends.cudnn.deterministic = True  # so that a resumed run repeats an uninterrupted one
    model = build_model(settings.model, images.channels, images.classes, images.size, settings.seed).to(place.device)
    example = torch.zeros(2, images.channels, images.size, images.size, device=place.device)
    report = autogroup.analyze(model, (example,))
    if settings.fsdp:
        distributed.shard(model, place)
    steps = data.steps_per_epoch(images, settings)
    optimizer = build_optimizer(settings, report, model, steps * settings.epochs)
    check_updates(settings, place, optimizer)
    net = distributed.replicate(model, place) if place.ranks > 1 and not settings.fsdp else model
    scheduler = build_schedule(settings, optimizer, schedule_of(settings), steps)
    scaler = torch.amp.GradScaler(place.device.type, enabled=settings.amp == "fp16")
    effective = EffectiveRate(report, model, steps)
    torch.manual_seed(settings.seed)
    return Run(settings, place, images, model, net, optimizer, scheduler, scaler, effective)


def load_data(settings: Settings, place: Place, download: bool) -> Data:
    """Load the dataset; only the first process downloads."""
    found = data.load(settings, download) if place.leads else None
    place.wait()
    return found or data.load(settings)


def create_graph(optimizer: Optimizer) -> bool:
    """Whether the optimizer differentiates the gradient."""
    known = get_supported_optimizers(type(innermost(optimizer)).__name__.lower())
    return any(info.needs_create_graph for info in known.values())


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether a step needs the gradient at a second point."""
    return bool(getattr(optimizer, "needs_closure", False))


def check_updates(settings: Settings, place: Place, optimizer: Optimizer) -> None:
    """Refuse combinations that cannot work."""
    if create_graph(optimizer) and place.ranks > 1:
        raise UsageError(
            f"{settings.optimizer} needs the graph of the gradients, which is lost when processes share them"
        )
    if settings.amp == "fp16" and (create_graph(optimizer) or needs_closure(optimizer)):
        raise UsageError("--amp fp16 scales the loss, which this optimizer does not see through: take --amp bf16")
