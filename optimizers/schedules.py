"""Learning-rate schedules, as ``torch.optim.lr_scheduler.LRScheduler``s around one pure function each.

Call ``scheduler.step()`` after every ``optimizer.step()``: all of them count updates t = 1, 2, …, not epochs, and the
rate of the first update is in force as soon as the scheduler exists. Their state is plain numbers.
"""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from optimizers._check import Check, Integer, Number, check_options

CHECKS: Mapping[str, Check] = {
    "beta2": Number(high=1.0, below=True),
    "peak_lr": Number(),
    "min_lr": Number(),
    "small_m": Number(),
    "big_m": Number(),
    "warmup_steps": Integer(0),
    "explore_steps": Integer(0),
    "total_steps": Integer(1),
    "num_steps": Integer(1),
    "num_iterations": Integer(1),
    "num_warm_up_iterations": Integer(0),
    "num_warm_down_iterations": Integer(0),
}


def _check(owner: object, **options: object) -> None:
    given = {name: value for name, value in options.items() if value is not None}
    check_options(type(owner).__name__, given, tuple(given), CHECKS)


def _beta2(owner: object, optimizer: Optimizer, beta2: float | None) -> list[float]:
    """Return β₂ for each group: the one given, else that of the group."""
    if beta2 is None and not all("betas" in group for group in optimizer.param_groups):
        name = type(owner).__name__
        raise ValueError(f"{name}: {type(optimizer).__name__} has no betas to read beta2 from: give {name}(beta2=...)")
    found = [group["betas"][1] if beta2 is None else beta2 for group in optimizer.param_groups]
    for value in found:
        _check(owner, beta2=value)
    return [float(value) for value in found]


def untuned_warmup(t: int, beta2: float) -> float:
    """Return the factor min(1, t·(1−β₂)/2) of update ``t`` ≥ 1."""
    return min(1.0, t * (1 - beta2) / 2)


class UntunedLinearWarmup(LRScheduler):
    """Linear warm-up whose length follows from β₂: the rate of update t is multiplied by min(1, t·(1−β₂)/2).

    Works on what the rate is, like torch's ``LinearLR``, and so combines with other schedules in ``ChainedScheduler``.

    Args:
        optimizer: any optimizer.
        beta2: β₂ in [0, 1); ``None`` reads ``betas[1]`` of each group.
        last_epoch: updates done so far minus one, when a run is resumed.

    Raises:
        ValueError: β₂ out of bounds, or not given and the groups have no ``betas``.

    Source:
        J. Ma, D. Yarats, "On the adequacy of untuned warmup for adaptive optimization", arXiv 1910.04209. The
        package pytorch_warmup truncates 2/(1−β₂), and warms up in 1999 instead of 2000 updates for β₂ = 0.999.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.Adam([torch.zeros(1)], lr=1.0, betas=(0.9, 0.5))
        >>> scheduler, rates = UntunedLinearWarmup(optimizer), []
        >>> for _ in range(5):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, beta2: float | None = None, last_epoch: int = -1) -> None:
        self.beta2 = _beta2(self, optimizer, beta2)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the next update: the present ones times the growth of the factor."""
        t = self.last_epoch + 1

        def growth(beta2: float) -> float:
            return untuned_warmup(t, beta2) / (untuned_warmup(t - 1, beta2) if t > 1 else 1.0)

        rates = [group["lr"] for group in self.optimizer.param_groups]
        return [rate * growth(beta2) for rate, beta2 in zip(rates, self.beta2, strict=True)]


def knee(t: int, peak_lr: float, warmup_steps: int, explore_steps: int, total_steps: int) -> float:
    """Return the rate of update ``t`` ≥ 1: linearly up, constant, linearly down to 0 after ``total_steps``."""
    decay_steps = total_steps - warmup_steps - explore_steps
    if t <= warmup_steps:
        return peak_lr * t / warmup_steps
    if t <= warmup_steps + explore_steps:
        return peak_lr
    return peak_lr * (1 - (t - warmup_steps - explore_steps) / decay_steps) if t < total_steps else 0.0


class KneeLR(LRScheduler):
    """Explore at a high rate, then exploit: linear warm-up, a constant rate, linear decay to 0.

    Args:
        optimizer: any optimizer; its own learning rates play no role.
        peak_lr: the constant rate ≥ 0, or one per group.
        warmup_steps: updates ≥ 0 that rise to it.
        explore_steps: updates ≥ 0 that stay there.
        total_steps: all updates, ≥ ``warmup_steps + explore_steps``; from this one on the rate is 0.
        last_epoch: updates done so far minus one, when a run is resumed.

    Raises:
        ValueError: an argument out of bounds.

    Source:
        N. Iyer et al., "Wide-minima density hypothesis and the explore-exploit learning rate schedule",
        arXiv 2003.03977.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)])
        >>> scheduler, rates = KneeLR(optimizer, peak_lr=1.0, warmup_steps=2, explore_steps=1, total_steps=5), []
        >>> for _ in range(5):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        peak_lr: float | Sequence[float],
        warmup_steps: int,
        explore_steps: int,
        total_steps: int,
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.peak_lrs = list(peak_lr) if isinstance(peak_lr, Sequence) else [peak_lr] * groups
        if len(self.peak_lrs) != groups:
            raise ValueError(f"KneeLR: got {len(self.peak_lrs)} values of peak_lr for {groups} groups")
        for peak in self.peak_lrs:
            _check(self, peak_lr=peak)
        _check(self, warmup_steps=warmup_steps, explore_steps=explore_steps, total_steps=total_steps)
        if total_steps < warmup_steps + explore_steps:
            raise ValueError(f"KneeLR: {total_steps=} must be >= {warmup_steps=} + {explore_steps=}")
        self.warmup_steps, self.explore_steps, self.total_steps = warmup_steps, explore_steps, total_steps
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the next update."""
        t = self.last_epoch + 1
        return [knee(t, peak, self.warmup_steps, self.explore_steps, self.total_steps) for peak in self.peak_lrs]


def fractal_order(length: int) -> list[int]:
    """Return the order of ``length`` Chebyshev nodes in which no prefix of the steps blows up.

    Each doubling writes k, 2n−1−k for every k: ``[0]``, ``[0, 1]``, ``[0, 3, 1, 2]``, … A length that is not a power of
    two takes the order of the next one and leaves out what is too large.
    """
    order = [0]
    while len(order) < length:
        order = [j for k in order for j in (k, 2 * len(order) - 1 - k)]
    return [k for k in order if k < length]


def chebyshev_steps(num_steps: int, small_m: float, big_m: float) -> list[float]:
    """Return the step sizes 1/γ, in fractal order, of the Chebyshev nodes γ of ``[small_m, big_m]``."""
    middle, half = (big_m + small_m) / 2, (big_m - small_m) / 2
    nodes = [middle - half * math.cos((j + 0.5) * math.pi / num_steps) for j in range(num_steps)]
    return [1 / nodes[k] for k in fractal_order(num_steps)]


class ChebyshevLR(LRScheduler):
    """Step sizes of Chebyshev iteration in fractal order, repeated every ``num_steps`` updates.

    A gradient method on a quadratic whose Hessian has its eigenvalues in ``[small_m, big_m]`` converges with these
    steps as fast as with momentum. Single steps are far beyond the stable 2 / ``big_m``, and the loss may rise in
    between: the order keeps that in bounds.

    Args:
        optimizer: any optimizer, meant for plain gradient descent; its own learning rates play no role.
        num_steps: period T ≥ 1; the paper has powers of two.
        small_m: lower bound > 0 of the eigenvalues.
        big_m: upper bound, ≥ ``small_m``.
        last_epoch: updates done so far minus one, when a run is resumed.

    Raises:
        ValueError: an argument out of bounds.

    Source:
        N. Agarwal, S. Goel, C. Zhang, "Acceleration via fractal learning rate schedules", arXiv 2103.01338.
        pytorch_optimizer builds the order for T − 2 steps, which can lose some, and shifts it by two.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)])
        >>> scheduler, rates = ChebyshevLR(optimizer, num_steps=4, small_m=0.1, big_m=1.0), []
        >>> for _ in range(4):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 2))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [7.45, 1.04, 2.65, 1.38]
    """

    def __init__(
        self, optimizer: Optimizer, num_steps: int, small_m: float, big_m: float, last_epoch: int = -1
    ) -> None:
        _check(self, num_steps=num_steps, small_m=small_m, big_m=big_m)
        if not 0 < small_m <= big_m:
            raise ValueError(f"ChebyshevLR: needs 0 < small_m <= big_m, got {small_m=}, {big_m=}")
        self.steps = chebyshev_steps(num_steps, small_m, big_m)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the next update."""
        return [self.steps[self.last_epoch % len(self.steps)]] * len(self.optimizer.param_groups)


def ranger21_warm_up(num_iterations: int, beta2: float) -> int:
    """Return Ranger21's own choice of warm-up iterations: 2/(1−β₂), or 22 % of a run too short for that."""
    ideal = 2 / (1 - beta2)
    # 2 / (1 - 0.9) is 20.000000000000004: round first where that is rounding and not a fraction.
    steps = round(ideal) if math.isclose(ideal, round(ideal), rel_tol=1e-9) else math.ceil(ideal)
    return steps if steps <= 0.45 * num_iterations else int(0.22 * num_iterations)


def ranger21_lr(
    t: int, peak_lr: float, min_lr: float, num_iterations: int, warm_up: int, warm_down_start: int
) -> float:
    """Return Ranger21's rate of update ``t`` ≥ 1: linearly up, constant, linearly down to ``min_lr``."""
    if t >= warm_down_start:
        done = min(1.0, (t + 1 - warm_down_start) / (num_iterations - warm_down_start + 1))
        return max(peak_lr - (peak_lr - min_lr) * done, min_lr)
    return peak_lr * min(1.0, t / warm_up) if warm_up else peak_lr


class Ranger21LR(LRScheduler):
    """Ranger21's schedule for any optimizer: linear warm-up, constant rate, linear warm-down.

    Args:
        optimizer: any optimizer; each group's learning rate is its peak.
        num_iterations: N ≥ 1, updates of the whole run.
        beta2: β₂ in [0, 1) for the length of the warm-up; ``None`` reads ``betas[1]`` of each group.
        num_warm_up_iterations: updates ≥ 0 that rise; ``None``: ⌈2/(1−β₂)⌉, or 22 % of N where that exceeds 45 % of N.
        num_warm_down_iterations: updates ≥ 0 that fall; ``None``: the last 28 % of N.
        min_lr: rate at the end, in [0, peak].
        last_epoch: updates done so far minus one, when a run is resumed.

    Raises:
        ValueError: an argument out of bounds, or ``min_lr`` above the rate of a group.

    Source:
        L. Wright, N. Demeure, "Ranger21: a synergistic deep learning optimizer", arXiv 2106.13731.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler, rates = Ranger21LR(optimizer, 10, beta2=0.5, min_lr=0.0), []
        >>> for _ in range(10):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        num_iterations: int,
        beta2: float | None = None,
        num_warm_up_iterations: int | None = None,
        num_warm_down_iterations: int | None = None,
        min_lr: float = 3e-5,
        last_epoch: int = -1,
    ) -> None:
        _check(
            self,
            num_iterations=num_iterations,
            num_warm_up_iterations=num_warm_up_iterations,
            num_warm_down_iterations=num_warm_down_iterations,
            min_lr=min_lr,
        )
        for group in optimizer.param_groups:
            peak = float(group.get("initial_lr", group["lr"]))
            if min_lr > peak:
                raise ValueError(f"Ranger21LR: {min_lr=} is above the learning rate {peak:g} of a group")
        groups = len(optimizer.param_groups)
        if num_warm_up_iterations is None:
            self.warm_up = [ranger21_warm_up(num_iterations, b) for b in _beta2(self, optimizer, beta2)]
        else:
            self.warm_up = [num_warm_up_iterations] * groups
        down = num_warm_down_iterations
        if down is not None and down > num_iterations:
            raise ValueError(f"Ranger21LR: {num_warm_down_iterations=} must be <= {num_iterations=}")
        self.warm_down_start = int(0.72 * num_iterations) if down is None else num_iterations - down
        self.num_iterations, self.min_lr = num_iterations, min_lr
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rates of the next update."""
        t = self.last_epoch + 1
        return [
            ranger21_lr(t, float(peak), self.min_lr, self.num_iterations, warm_up, self.warm_down_start)
            for peak, warm_up in zip(self.base_lrs, self.warm_up, strict=True)
        ]
