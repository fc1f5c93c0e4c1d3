"""Ranger21: AdamW with eight more ideas (Wright and Demeure 2021)."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar, cast

from torch import Tensor
from torch.optim.optimizer import ParamsT

from optimizers._adam import corrected, denominator
from optimizers._agc import clipped, clipping_numbers
from optimizers._base import BlockOptimizer, options
from optimizers._check import Check, Flag, Integer, Number, OrNone
from optimizers._math import TINY, Blocks, rows
from optimizers._rows import Row
from optimizers._slots import Slot
from optimizers._whole import inverse_rms
from optimizers.pnm import momentum_numbers
from optimizers.schedules import ranger21_lr, ranger21_warm_up


class Ranger21(BlockOptimizer):
    r"""Ranger21: clipped, centralized, normalized gradients; positive-negative momentum; stable decay; slow weights.

    First, for all parameters of all groups, with rows :math:`w` of :math:`\theta` (slices along dim 0; vectors as a
    whole), :math:`c` = ``agc_clipping_value`` and the momentum a of this parity of t (b is the other one):

    .. math::
        g_w &\leftarrow g_w\,\min\!\left(1, \frac{c\max(\|w\|, \epsilon_c)}{\|g_w\|}\right), \qquad
        g_w \leftarrow g_w - \operatorname{mean}(g_w), \qquad g \leftarrow \frac{g}{\operatorname{std}(g) + 10^{-8}} \\
        a &\leftarrow \beta_1^2 a + (1-\beta_1^2) g, \qquad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \qquad
        \bar v = \sqrt{\operatorname{mean}_{\text{all}}\frac{v}{1-\beta_2^t}}

    then, with the rate :math:`\eta_t` of the schedule, :math:`\lambda` = ``weight_decay`` and :math:`f` =
    ``norm_loss_factor``:

    .. math::
        \theta &\leftarrow \theta\,(1 - \eta_t\lambda/\bar v), \qquad
        w \leftarrow w\left(1 - 2\eta_t f\left(1 - \frac1{\|w\|+\epsilon}\right)\right) \\
        \hat v &\leftarrow \max(\hat v, v), \qquad
        d = \operatorname{softplus}\!\left(\frac{\sqrt{\hat v}}{\sqrt{1-\beta_2^t}} + \epsilon\right) \\
        \theta &\leftarrow \theta - \frac{\eta_t}{1-\beta_1^t}\,
          \frac{(1+\beta_0) a - \beta_0 b}{d\,\sqrt{(1+\beta_0)^2 + \beta_0^2}} \\
        \theta &\leftarrow \phi + \alpha(\theta - \phi), \qquad \phi \leftarrow \theta
          \quad\text{if } t \text{ is a multiple of the merge time}

    Args:
        params: tensors, ``(name, tensor)`` pairs, or group dicts.
        num_iterations: steps of the whole run, for the schedule (see `schedule`); ``None``: no schedule.
        lr: the highest learning rate :math:`\eta \ge 0`; a number or a 1-element tensor.
        beta0: :math:`\beta_0 \in [0, 1]`, how much of the other momentum is subtracted.
        betas: :math:`(\beta_1, \beta_2)`, each in [0, 1).
        eps: :math:`\epsilon \ge 0`.
        use_softplus: smooth the denominator; without it d is the argument of softplus.
        beta_softplus: :math:`\beta > 0` of :math:`\log(1 + e^{\beta x})/\beta`.
        num_warm_up_iterations: an int of at least 0; ``None``: see `schedule`.
        num_warm_down_iterations: an int of at least 0; ``None``: see `schedule`.
        warm_down_min_lr: where the schedule ends; at most ``lr``.
        agc_clipping_value: :math:`c \ge 0`; 0 or ``None`` for no clipping.
        agc_eps: :math:`\epsilon_c \ge 0`.
        centralize_gradients: subtract the mean of each row (not from vectors). Leaves nothing of rows of one entry.
        normalize_gradients: divide by the standard deviation of the tensor (if it has more than two entries).
        lookahead_merge_time: steps between the merges of the last line, an int of at least 1.
        lookahead_blending_alpha: :math:`\alpha \in (0, 1]`, the weight of the fast weights.
        weight_decay: :math:`\lambda \ge 0`.
        norm_loss_factor: :math:`f \ge 0`; pulls the norm of each row to 1.
        disable_lr_scheduler: take ``lr`` as it is, for instance from a scheduler of torch, which would otherwise
            multiply with the schedule.
        maximize: go up instead of down.
        impl: ``"auto"``, ``"loop"``, ``"foreach"`` or ``"compiled"``.

    Every argument but ``params`` and ``impl`` can be set per group.

    State:
        ``step`` (0-d float32), ``exp_avg_odd``, ``exp_avg_even``, ``exp_avg_sq``, ``max_exp_avg_sq`` and
        ``slow_buffer``, :math:`\phi` (like the parameter; float32 for half precision), from construction on.

    Raises:
        ValueError: an option out of bounds.

    Source:
        L. Wright, N. Demeure, "Ranger21: a synergistic deep learning optimizer", arXiv 2106.13731, followed where the
        authors' code differs from it: there, decay and norm loss reach only the last tensor, the maximum of v never
        acts, and gradients are normalized twice.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(4, 2)
        >>> optimizer = Ranger21(linear.parameters(), num_iterations=100, lr=1e-2)
        >>> linear(torch.ones(1, 4)).square().mean().backward()
        >>> optimizer.step()
        >>> [round(lr, 5) for lr in Ranger21.schedule(100, 0.999, 1e-2)[:3]]
        [0.00045, 0.00091, 0.00136]
    """

    slots: ClassVar[Mapping[str, Slot]] = {
        "exp_avg_odd": Slot(),
        "exp_avg_even": Slot(),
        "exp_avg_sq": Slot(),
        "max_exp_avg_sq": Slot(),
        "slow_buffer": Slot(start="parameter"),
    }
    at_construction: ClassVar[bool] = True
    checks: ClassVar[Mapping[str, Check]] = {
        "num_iterations": OrNone(Integer(1)),
        "beta0": Number(high=1.0),
        "use_softplus": Flag(),
        "beta_softplus": Number(above=True),
        "num_warm_up_iterations": OrNone(Integer()),
        "num_warm_down_iterations": OrNone(Integer()),
        "warm_down_min_lr": Number(),
        "agc_clipping_value": OrNone(Number()),
        "agc_eps": Number(),
        "centralize_gradients": Flag(),
        "normalize_gradients": Flag(),
        "lookahead_merge_time": Integer(1),
        "lookahead_blending_alpha": Number(high=1.0, above=True),
        "norm_loss_factor": Number(),
        "disable_lr_scheduler": Flag(),
    }

    def __init__(
        self,
        params: ParamsT,
        num_iterations: int | None = None,
        lr: float | Tensor = 1e-3,
        beta0: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        use_softplus: bool = True,
        beta_softplus: float = 50.0,
        num_warm_up_iterations: int | None = None,
        num_warm_down_iterations: int | None = None,
        warm_down_min_lr: float = 3e-5,
        agc_clipping_value: float | None = 1e-2,
        agc_eps: float = 1e-3,
        centralize_gradients: bool = True,
        normalize_gradients: bool = True,
        lookahead_merge_time: int = 5,
        lookahead_blending_alpha: float = 0.5,
        weight_decay: float = 1e-4,
        norm_loss_factor: float = 1e-4,
        disable_lr_scheduler: bool = False,
        maximize: bool = False,
        impl: str = "auto",
    ) -> None:
        super().__init__(params, options(locals()), impl)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        lowest, lr = float(group["warm_down_min_lr"]), float(group["lr"])
        if group["num_iterations"] is not None and not group["disable_lr_scheduler"] and lowest > lr:
            raise ValueError(f"{type(self).__name__}: warm_down_min_lr must be at most {lr=}, got {lowest}")

    @staticmethod
    def schedule(
        num_iterations: int,
        beta2: float,
        lr: float,
        min_lr: float = 3e-5,
        num_warm_up_iterations: int | None = None,
        num_warm_down_iterations: int | None = None,
    ) -> list[float]:
        r"""Return the learning rate of every step of a run.

        Linear warm-up in :math:`2/(1-\beta_2)` steps, or in 22 % of the run if that were more than 45 % of it; linear
        warm-down to ``min_lr`` in the last 28 %. A step beyond the run has ``min_lr``.
        """
        warm_up, warm_down = num_warm_up_iterations, num_warm_down_iterations
        return [_rate(t, num_iterations, beta2, lr, min_lr, warm_up, warm_down) for t in range(1, num_iterations + 1)]

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the rows."""
        return rows(shape)

    def phases(self, group: Mapping[str, Any]) -> Sequence[int]:
        """Return an odd and an even step, without and with a merge."""
        return 1, 2, group["lookahead_merge_time"], 2 * group["lookahead_merge_time"]

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return the numbers and flags of one parameter."""
        beta1, beta2 = map(float, group["betas"])
        lr, entries = float(group["lr"]), blocks.size * prod(blocks.shape)
        if group["num_iterations"] is not None and not group["disable_lr_scheduler"]:
            names = ("warm_down_min_lr", "num_warm_up_iterations", "num_warm_down_iterations")
            lr = _rate(t, group["num_iterations"], beta2, lr, *(group[name] for name in names))
        pull = 2 * lr * float(group["norm_loss_factor"])
        return {
            "maximize": group["maximize"],
            "centralizes": group["centralize_gradients"] and len(blocks.shape) > 1,
            "normalizes": group["normalize_gradients"] and entries > 2,
            "whole": group["normalize_gradients"] and entries > 2,
            "decays": float(group["weight_decay"]) != 0,
            "pulls": float(group["norm_loss_factor"]) != 0,
            "smooths": group["use_softplus"],
            "merges": t % group["lookahead_merge_time"] == 0,
            **clipping_numbers({**group, "clipping": group["agc_clipping_value"]}),
            "minus_inverse_size": -1 / max(blocks.size, 1),
            "minus_inverse_entries": -1 / max(entries, 1),
            "inverse_freedom": 1 / max(entries - 1, 1),
            "one_minus_beta2": 1 - beta2,
            **momentum_numbers(beta1, float(group["beta0"]), t),
            "rate": lr * float(group["weight_decay"]),
            "pull": pull,
            "one_minus_pull": 1 - pull,
            "eps": float(group["eps"]) + TINY,
            "minus_beta_softplus": -float(group["beta_softplus"]),
            "inverse_beta_softplus": 1 / float(group["beta_softplus"]),
            "alpha": group["lookahead_blending_alpha"],
            **corrected({**group, "lr": lr}, t),
        }

    @staticmethod
    def observe(
        p: Tensor, g: Tensor, odd: Tensor, even: Tensor, v: Tensor, v_max: Tensor, slow: Tensor, h: Any
    ) -> None:
        """Update the momentum of this parity and the second moment v in place."""
        blocks = h.blocks
        g = clipped(p, g, h)
        if h.centralizes:
            g = g + blocks.sum(g) * h.minus_inverse_size
        if h.normalizes:  # in place on copies, which stay sharded as g is
            from_mean = g.clone().add_(blocks.total(g) * h.minus_inverse_entries)
            g = g.clone().div_((blocks.total(from_mean * from_mean) * h.inverse_freedom).sqrt_().add_(1e-8))
        (odd if h.odd else even).lerp_(g, h.one_minus_beta1_squared)
        v.lerp_(g * g, h.one_minus_beta2)

    def prepare(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Return the inverse root mean square of the second moments of all parameters."""
        if not any(float(group["weight_decay"]) for group in self.param_groups):
            return {}
        seconds = [cast("Tensor", row.slots[2]) for row in rows]
        return {"inverse_v": inverse_rms(seconds, [row.values["root"] ** 2 for row in rows])}

    @staticmethod
    def rule(p: Tensor, g: Tensor, odd: Tensor, even: Tensor, v: Tensor, v_max: Tensor, slow: Tensor, h: Any) -> None:
        """Update p, the maximum of v and the slow weights in place."""
        if h.decays:
            p.sub_((p * h.rate).mul_(h.inverse_v))
        if h.pulls:
            p.mul_(h.blocks.norm(p).add_(h.eps).reciprocal().mul_(h.pull).add_(h.one_minus_pull))
        now, before = (odd, even) if h.odd else (even, odd)
        step, den = (now * h.positive).add_(before * h.negative), denominator(v, v_max, h)
        if h.smooths:  # softplus of a number x > 0 is x + log(1 + exp(−βx))/β
            den.add_((den * h.minus_beta_softplus).exp().log1p().mul_(h.inverse_beta_softplus))
        p.addcdiv_(step, den, value=h.minus_step)
        if h.merges:
            p.copy_(slow.lerp_(p, h.alpha))


def _rate(
    t: int, steps: int, beta2: float, lr: float, min_lr: float, warm_up: int | None, warm_down: int | None
) -> float:
    if warm_up is None:
        warm_up = ranger21_warm_up(steps, beta2)
    start = int(0.72 * steps) if warm_down is None else steps - warm_down
    # lr may have been lowered since min_lr was checked, and is 0 while a checkpoint loads.
    return ranger21_lr(t, lr, min(min_lr, lr), steps, warm_up, start)
