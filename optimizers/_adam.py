"""What the relatives of Adam share: modes of weight decay, moments, bias correction, rectification, running maximum."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

from torch import Tensor

from optimizers._math import TINY

Numbers = dict[str, float | bool]


def decay_numbers(group: Mapping[str, Any]) -> Numbers:
    """Return what `decayed` reads: coupled decay goes into the gradient, decoupled decay shrinks the parameter."""
    lr, decay, decoupled = float(group["lr"]), float(group["weight_decay"]), group["weight_decouple"]
    # lr = 0 is no step at all, even for a decay that does not follow lr: torch loads distributed checkpoints with one.
    rate = float(lr != 0) if group.get("fixed_decay") else lr
    return {
        "couples": decay != 0 and not decoupled,
        "shrinks": decay != 0 and decoupled,
        "weight_decay": decay,
        "keep": 1 - rate * decay,
    }


def decayed(p: Tensor, g: Tensor, h: Any) -> Tensor:
    """Shrink p in place if decay is decoupled. Return the gradient, with decay if it is coupled."""
    if h.shrinks:
        p.mul_(h.keep)
    return (p * h.weight_decay).add_(g) if h.couples else g


def adam_numbers(group: Mapping[str, Any]) -> Numbers:
    """Return what does not depend on the step: decay, and the weights of `update_moments`."""
    beta1, beta2 = map(float, group["betas"])
    return {
        "maximize": group["maximize"],
        "one_minus_beta1": 1 - beta1,
        "one_minus_beta2": 1 - beta2,
        **decay_numbers(group),
    }


def update_moments(g: Tensor, m: Tensor, v: Tensor, h: Any) -> None:
    """Update the averages m of the gradient and v of its square in place."""
    m.lerp_(g, h.one_minus_beta1)
    v.lerp_(g * g, h.one_minus_beta2)


def corrected(group: Mapping[str, Any], t: int) -> Numbers:
    """Return the step −η/b1 · m / (√v/√b2 + ε) as ``minus_step``, ``root`` and ``offset`` of `denominator`."""
    step, root_b2 = _bias(group, t)
    return {"minus_step": -step, "root": 1 / root_b2, "offset": float(group["eps"]) + TINY}


def corrected_outside(group: Mapping[str, Any], t: int) -> Numbers:
    """Return the step −η·√b2/b1 · m / (√v + ε), in which ε meets the uncorrected root."""
    step, root_b2 = _bias(group, t)
    return {"minus_step": -step * root_b2, "root": 1.0, "offset": float(group["eps"]) + TINY}


def rectified(group: Mapping[str, Any], t: int) -> Numbers:
    """Return `corrected_outside` times r once v is reliable; before, −η/b1 · m or no step at all (arXiv 1908.03265)."""
    beta2 = float(group["betas"][1])
    last = 2 / (1 - beta2) - 1
    rho = last - 2 * t * beta2**t / (1 - beta2**t)
    if rho >= group["n_sma_threshold"]:
        r = sqrt((rho - 4) * (rho - 2) * last / ((last - 4) * (last - 2) * rho))
        numbers = corrected_outside(group, t)
        return {**numbers, "minus_step": numbers["minus_step"] * r}
    # A denominator of 0·√v + 1, so that the start of rectification changes numbers only and compiles nothing.
    return {"minus_step": -_bias(group, t)[0] if group["degenerated_to_sgd"] else 0.0, "root": 0.0, "offset": 1.0}


def _bias(group: Mapping[str, Any], t: int) -> tuple[float, float]:
    """Return η/b1 (η with ``adam_debias``, as in AdamD) and √b2."""
    b1 = 1 if group.get("adam_debias") else 1 - float(group["betas"][0]) ** t
    return float(group["lr"]) / b1, sqrt(1 - float(group["betas"][1]) ** t)


def denominator(v: Tensor, v_max: Tensor | None, h: Any) -> Tensor:
    """Return ``root``·√v + ``offset``. With AMSGrad (arXiv 1904.09237), the running maximum of v takes its place."""
    if v_max is not None:
        v = v_max.copy_(v_max.maximum(v))
    return v.sqrt().mul_(h.root).add_(h.offset)
