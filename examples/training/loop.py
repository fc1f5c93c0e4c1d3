"""Training: one update, one epoch, one evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from optimizers import frozen_running_stats
from training import data, distributed
from training.optimizer import innermost
from training.run import Run, create_graph, needs_closure
from training.settings import UsageError

Batch = tuple[Tensor, Tensor]


class DivergedError(UsageError):
    """The loss is not finite any more."""


def backward(run: Run, batch: Batch) -> float:
    """Add up the gradients of the mean loss of a batch, part by part, and return the loss."""
    images, labels = (x.to(run.place.device, non_blocking=True) for x in batch)
    parts = run.settings.accumulate
    kind = torch.float16 if run.settings.amp == "fp16" else torch.bfloat16
    mixed = nullcontext() if run.settings.amp == "off" else torch.autocast(run.place.device.type, kind)
    total = torch.zeros((), device=run.place.device)
    for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):
        with mixed:
            loss = F.cross_entropy(run.net(x), y) / parts
        differentiate(run, run.scaler.scale(loss))
        total += loss.detach()
    return total.item()


def differentiate(run: Run, loss: Tensor) -> None:
    """Do ``loss.backward()``, or the same with a graph: ``backward(create_graph=True)`` would leak and warn of it."""
    if not create_graph(run.optimizer):
        loss.backward()
        return
    parameters = list(run.model.parameters())
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters, create_graph=True), strict=True):
        p.grad = g if p.grad is None else p.grad + g


def update(run: Run, batch: Batch) -> float:
    """Do one update and return the loss before it."""
    run.optimizer.zero_grad(set_to_none=True)
    loss = backward(run, batch)
    if needs_closure(run.optimizer):
        with frozen_running_stats(run.model):
            run.optimizer.step(lambda: backward(run, batch))
    elif run.scaler.is_enabled():
        run.scaler.step(run.optimizer)
        run.scaler.update()
    else:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(loss):
        raise DivergedError(
            f"training diverged: the loss is {loss} in epoch {run.epoch + 1}, step {run.step + 1}; lower --lr"
        )
    return loss


def rates(optimizer: Optimizer) -> dict[str, float]:
    """Return name → learning rate; those that RMSGD chose for each layer are its own."""
    groups = optimizer.param_groups
    names = [name for group in groups for name in group["param_names"]]
    inner: Any = innermost(optimizer)
    if hasattr(inner, "learning_rates"):
        return dict(zip(names, inner.learning_rates(), strict=True))
    return dict(zip(names, [float(group["lr"]) for group in groups for _ in group["param_names"]], strict=True))


def train_epoch(run: Run, after_step: Callable[[], bool]) -> bool:
    """Do the rest of the present epoch.

    Args:
        run: is at ``run.step`` of the epoch.
        after_step: called after each step; returns whether to stop here.

    Returns:
        Whether the epoch is complete.
    """
    run.net.train()
    begin = time.perf_counter()
    batches = data.training_batches(run.data, run.settings, run.epoch, run.step, run.place.rank, run.place.ranks)
    for batch in batches:
        run.effective.start(run.step)
        lrs = rates(run.optimizer)
        run.lr = max(lrs.values())
        run.loss += update(run, batch)
        run.effective.end(lrs)
        run.scheduler.step()
        run.step += 1
        run.seconds += time.perf_counter() - begin
        if after_step():
            return False
        begin = time.perf_counter()
    inner: Any = innermost(run.optimizer)
    if hasattr(inner, "epoch_step"):
        inner.epoch_step()
    record(run)
    return True


@torch.no_grad()
def evaluate(run: Run) -> tuple[float, float]:
    """Return loss and accuracy in % on the test images."""
    distributed.average_statistics(run.model, run.place)
    run.net.eval()
    loss, right, total = 0.0, 0.0, 0.0
    for images, labels in data.test_batches(run.data, run.settings, run.place.rank, run.place.ranks):
        x, y = images.to(run.place.device), labels.to(run.place.device)
        # Not through DDP, whose forward expects as many batches of every process.
        logits = run.model(x).float()
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
        total += len(y)
    loss, right, total = run.place.total(loss, right, total)
    return loss / total, 100 * right / total


def record(run: Run) -> None:
    """End an epoch: evaluate, and write down a row."""
    test_loss, accuracy = evaluate(run)
    (loss,) = run.place.total(run.loss)
    run.epoch += 1
    row = {
        "epoch": run.epoch,
        "train_loss": loss / run.step / run.place.ranks,
        "test_loss": test_loss,
        "accuracy": accuracy,
        "seconds_per_step": run.seconds / run.step,
        "lr": run.lr,
    }
    run.history.epochs.append(row)
    run.history.layers += run.effective.rows(run.epoch)
    run.step, run.loss, run.seconds = 0, 0.0, 0.0
