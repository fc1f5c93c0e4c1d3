"""What a row of the table of optimizers is made of; the rows stand in ``rows``, one file per family."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Partition = Mapping[str, Mapping[str, Any]]

EVERY_KIND: Partition = {
    "conv": {"channel_dims": (0,)},
    "deconv": {"channel_dims": [1]},
    "linear": {"channel_dims": ()},
    "heads": {"channel_dims": (0,), "channel_groups": 3},
    "taps": {"channel_dims": (-1, 0), "channel_groups": 2},
    "bias": {"channel_wise": True},
    "scalar": {"channel_dims": (0,)},
    "one": {"channel_dims": (0,)},
}
"""One group per parameter of the problem, with every form that a partition can take."""


@dataclass(frozen=True)
class Config:
    """One way to build the optimizer: constructor options, and group options by parameter name."""

    kwargs: Mapping[str, Any]
    groups: Partition = field(default_factory=dict)


@dataclass(frozen=True)
class OptimizerCase:
    """What the generic tests need to know about one optimizer.

    Attributes:
        configs: id → configuration.
        oracle: the slow twin, or ``None`` with the reason in ``skip["oracle"]``.
        whole: what the oracle needs to know about all parameters: it takes a list of (θ, g, state, t, options), one for
            each parameter that has a gradient, and what it returns joins the options that the oracle gets.
        curvature: for optimizers that differentiate gradients: a function from shapes to the diagonal of the Hessian
            that the gradients of the generic tests shall have.
        construct: what the constructor does to a parameter, from the parameter and its options, if it changes it.
        compiles: ids of the configurations that the slow compile tests use.
        twin: the ``torch.optim`` class it equals when every entry is its own block, with the options that both take.
        lr_power: multiplying θ by α and g by 1/α multiplies θ's path by α if lr is multiplied by α to this power.
        scale_free: options under which the above is exact.
        tangent: name of the slot that is tangent to the sphere after each step, and the options for it.
        errors: constructor options that must be refused, with a pattern of the message.
        tol: test id → (rtol, reason), where the default does not do.
        skip: test id → reason.
    """

    cls: Any  # the class; Any, because the constructors differ
    configs: Mapping[str, Config]
    oracle: Callable[..., Any] | None
    compiles: tuple[str, ...]
    whole: Callable[..., Mapping[str, Any]] | None = None
    curvature: Callable[[Sequence[int]], Any] | None = None
    construct: Callable[..., Any] | None = None
    twin: tuple[type[torch.optim.Optimizer], Mapping[str, Any]] | None = None
    lr_power: int | None = None
    scale_free: Mapping[str, Any] = field(default_factory=dict)
    tangent: tuple[str, Mapping[str, Any]] | None = None
    errors: tuple[tuple[Mapping[str, Any], str], ...] = ()
    tol: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    skip: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.cls.__name__


NAN = float("nan")

PARTITION_ERRORS: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"channel_dims": (7,)}, r"'conv'.*channel_dims=\(7,\) must lie in \[-4, 3\]"),
    ({"channel_dims": (0, -4)}, r"'conv'.*channel_dims=\(0, -4\) names a dim twice"),
    ({"channel_dims": 0}, r"channel_dims must be None or a sequence of ints, got channel_dims=0"),
    ({"channel_dims": (0.5,)}, r"channel_dims must be .* got channel_dims=\(0.5,\)"),
    ({"channel_dims": (0,), "channel_groups": 4}, r"'conv'.*channel_groups=4 must be >= 1 and divide dim 0"),
    ({"channel_dims": (0,), "channel_groups": 0}, r"channel_groups=0 must be >= 1"),
    ({"channel_dims": (0,), "channel_groups": 1.5}, r"channel_groups must be None or an int >= 1, got .*1.5"),
    ({"channel_groups": 2}, r"channel_groups=2 needs a dim to cut"),
    ({"channel_wise": 1}, r"channel_wise must be True or False, got channel_wise=1"),
)
COMMON_ERRORS: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"lr": -0.1}, r"lr must be a finite number >= 0, got lr=-0.1"),
    ({"lr": NAN}, r"got lr=nan"),
    ({"lr": float("inf")}, r"got lr=inf"),
    ({"lr": "0.1"}, r"got lr='0.1'"),
    ({"lr": torch.ones(2)}, r"got lr=tensor"),
    ({"weight_decay": -1}, r"weight_decay must be a finite number >= 0, got weight_decay=-1"),
    ({"maximize": None}, r"maximize must be True or False, got maximize=None"),
    ({"impl": "fused"}, r"impl must be one of .*'compiled'.* got impl='fused'"),
)
ADAM_ERRORS: tuple[tuple[Mapping[str, Any], str], ...] = (
    ({"betas": (0.9, 1.0)}, r"betas must be 2 numbers.*0 <= x < 1, got betas=\(0.9, 1.0\)"),
    ({"betas": (-0.1, 0.9)}, r"got betas=\(-0.1, 0.9\)"),
    ({"betas": (0.9,)}, r"got betas=\(0.9,\)"),
    ({"betas": 0.9}, r"got betas=0.9"),
    ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
)
