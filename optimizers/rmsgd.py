"""RMSGD: SGD with one learning rate per layer, from the structure in its weights (Hosseini et al. 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Flag, Integer, Number, OrNone
from optimizers._math import Blocks, resolve
from optimizers._sgd import check_nesterov, sgd_numbers
from optimizers._slots import Slot
from optimizers._whole import gathered
from optimizers.evbmf import evbmf

NO_GAIN = 1e-8


class RMSGD(BlockOptimizer):
    r"""SGD with momentum whose learning rate is one number per layer, changed by `epoch_step` once per epoch.

    A layer that gained structure during an epoch goes on at a higher rate, one that gained none slows down. The
    *knowledge gain* G of a matrix is the sum of the singular values of its low-rank part (`optimizers.evbmf`), relative
    to the largest one, per row; that of a convolution is the mean over its unfoldings along the input and the output
    channels. In each step, :math:`\theta \leftarrow \theta - \eta_p\,d` with d as in ``torch.optim.SGD``, and at the
    end of epoch e = 0, 1, …

    .. math::
        \Delta &= \begin{cases} \eta & e = 0 \\ G(e) - G(e-1) & e > 0 \end{cases} \\
        \eta_p &\leftarrow \max(\beta\,\eta_p + \zeta\Delta,\ \eta_{\min}), \qquad \beta = 0 \text{ for } e = 0

    While a layer has had no knowledge gain yet, :math:`\Delta` is what keeps its :math:`\eta_p` at :math:`\eta`. Every
    ``step_size`` epochs, ``gamma`` then multiplies :math:`\eta_p` and :math:`\zeta` (1 at first) on the right.

    Weights of four dims are analysed and, with ``linear``, those of two. Any other parameter has the rate of the one
    before it, and those before the first analysed one keep :math:`\eta`. A changed ``lr``, by hand or by a scheduler,
    multiplies the rates of its group in proportion.

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        lr: first learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        beta: :math:`\beta` in [0, 1), how slowly rates follow the gain.
        step_size: epochs between two decays of the rates, at least 1; ``None`` for no decay.
        gamma: factor of the decay, at least 0.
        linear: analyse matrices, too.
        min_lr: :math:`\eta_{\min} \ge 0`. A layer whose rate is 0 is frozen for good.
        momentum: :math:`\mu \ge 0`.
        dampening: in [0, 1]; does not act on the first gradient.
        weight_decay: coupled (L2) decay :math:`\ge 0`.
        nesterov: look ahead with the momentum; needs momentum, and no dampening.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), with momentum ``momentum_buffer`` (like the parameter), and per tensor ``lr_change``
        (:math:`\eta_p/\eta - 1`), ``gain`` (the last G), ``ready`` (whether there was a gain yet) and ``epoch``.

    Raises:
        ValueError: an option out of bounds, or ``nesterov`` without momentum or with dampening.

    Source:
        M. Hosseini et al., "Exploiting explainable metrics for augmented SGD", arXiv 2203.16723. In the authors'
        package the first epoch multiplies the rate by 1.8, which the code of their paper does not, and one waiting
        layer is skipped after another; its search for the noise depends on the unit of the weights.

    Example:
        >>> conv = torch.nn.Conv2d(8, 12, 3)
        >>> optimizer = RMSGD(conv.parameters(), lr=0.1, momentum=0.9)
        >>> for epoch in range(2):
        ...     for batch in range(3):
        ...         optimizer.zero_grad()
        ...         conv(torch.ones(1, 8, 5, 5)).square().mean().backward()
        ...         optimizer.step()
        ...     optimizer.epoch_step()
        >>> len(optimizer.learning_rates())
        2
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "momentum_buffer": Slot(when="momentum"),
        "lr_change": Slot(shape="block"),
        "gain": Slot(shape="block"),
        "ready": Slot(shape="block"),
        "epoch": Slot(shape="block"),
    }
    checks: ClassVar[Mapping[str, Check]] = {
        "beta": Number(high=1.0, below=True),
        "step_size": OrNone(Integer(low=1)),
        "gamma": Number(),
        "linear": Flag(),
        "min_lr": Number(),
    }

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 0.1,
        beta: float = 0.8,
        step_size: int | None = None,
        gamma: float = 1.0,
        linear: bool = False,
        min_lr: float = 0.0,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        check_nesterov(type(self).__name__, group)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the whole tensor as one block."""
        return resolve(shape, (), None)

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        return {
            "maximize": group["maximize"],
            "decays": float(group["weight_decay"]) != 0,
            "weight_decay": group["weight_decay"],
            **sgd_numbers(group, t),
        }

    @staticmethod
    def rule(
        p: Tensor, g: Tensor, a: Tensor | None, change: Tensor, gain: Tensor, ready: Tensor, epoch: Tensor, h: Any
    ) -> None:
        """Update p and the momentum a in place."""
        if h.decays:
            g = (p * h.weight_decay).add_(g)
        if a is not None:
            a.mul_(h.momentum).add_(g * h.undamped)
            g = (a * h.momentum).add_(g) if h.nesterov else a
        p.add_(g * change.add(1.0).mul_(h.minus_lr))

    @torch.no_grad()
    def epoch_step(self) -> None:
        """Change the learning rates. Call it once per epoch, after its last step; it does two SVDs per convolution."""
        rate: float | None = None
        for group in self.param_groups:
            first = _first_lr(group)
            for i, p in enumerate(cast("list[Tensor]", group["params"])):
                if not first or not p.numel():
                    continue
                self._slots(group, p, self._blocks(group, i))
                state = cast("dict[str, Tensor]", self.state[p])
                if p.requires_grad and (p.ndim == 4 or (p.ndim == 2 and group["linear"])):
                    _adapt(p, state, group)
                    rate = first * (1 + _number(state["lr_change"]))
                elif rate is not None:
                    state["lr_change"].fill_(rate / first - 1)

    def learning_rates(self) -> list[float]:
        """Return the rate now in force of each parameter, in the order of the groups."""
        rates: list[float] = []
        for group in self.param_groups:
            states = [cast("dict[str, Tensor]", self.state.get(p, {})) if p.numel() else {} for p in group["params"]]
            changes = [_number(state["lr_change"]) if state else 0.0 for state in states]
            rates += [float(group["lr"]) * (1 + change) for change in changes]
        return rates


def knowledge_gain(weight: Tensor) -> float:
    """Return the knowledge gain of a matrix, or of a convolution as the mean of two unfoldings.

    Args:
        weight: ``[o, i]`` or ``[o, i, *kernel]``.

    Example:
        >>> knowledge_gain(torch.zeros(3, 2))
        0.0
    """
    weight = gathered(weight)
    if weight.ndim == 2:
        return evbmf(weight).gain
    return (evbmf(weight.flatten(1)).gain + evbmf(weight.transpose(0, 1).flatten(1)).gain) / 2


def _adapt(p: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    """Do the end of an epoch for one layer, in units of its first rate."""
    first, beta, gamma, step_size = _first_lr(group), float(group["beta"]), float(group["gamma"]), group["step_size"]
    epoch, before, now = int(_number(state["epoch"])), _number(state["gain"]), knowledge_gain(p)
    ready = _number(state["ready"]) > 0 or now > NO_GAIN
    decay = gamma if step_size and epoch and epoch % step_size == 0 else 1.0
    if not epoch or not ready:
        rate = decay
    else:
        zeta = gamma ** (epoch // step_size) if step_size else 1.0
        rate = beta * decay * (1 + _number(state["lr_change"])) + zeta * (now - before) / first
    state["lr_change"].fill_(max(rate, float(group["min_lr"]) / first) - 1)
    state["gain"].fill_(now)
    state["ready"].fill_(float(ready))
    state["epoch"].add_(1.0)


def _first_lr(group: Mapping[str, Any]) -> float:
    """Return η: where a scheduler started from, if there is one."""
    return float(group.get("initial_lr", group["lr"]))


def _number(x: Any) -> float:
    return float(gathered(x))
