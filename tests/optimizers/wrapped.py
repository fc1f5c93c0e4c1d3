"""The table of wrappers that the generic tests share: how to build one around an optimizer, and how to step it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from optimizers import AdamSRT, wrappers
from optimizers.wrappers import (
    AGC,
    ASAM,
    SAM,
    GradientCentralization,
    GradientNormalization,
    Lookahead,
    NormLoss,
    PCGrad,
)

Build = Callable[..., Any]


@dataclass(frozen=True)
class WrapperCase:
    """One wrapper.

    Attributes:
        build: ``build(optimizer, **options)``.
        options: options that make it act within a few steps.
        neutral: options under which it is the optimizer inside.
        errors: options that must be refused, with a pattern of the message.
        closure: the step needs one, and the constructor builds the optimizer inside.
    """

    cls: Any
    build: Build
    options: Mapping[str, Any]
    neutral: Mapping[str, Any]
    errors: tuple[tuple[Mapping[str, Any], str], ...]
    closure: bool = False


def around(cls: Any) -> Build:
    """SAM builds the optimizer inside itself: hand it one that exists."""
    return lambda optimizer, **options: cls(optimizer.param_groups, lambda _: optimizer, **options)


NAN = float("nan")
CASES = {
    "Lookahead": WrapperCase(
        Lookahead,
        Lookahead,
        {"k": 2, "alpha": 0.5, "pullback_momentum": "pullback"},
        {"k": 2, "alpha": 1.0},
        (
            ({"k": 0}, "k must be an int >= 1, got k=0"),
            ({"k": 2.0}, "got k=2.0"),
            ({"alpha": 0.0}, "0 < alpha <= 1, got alpha=0.0"),
            ({"alpha": 1.5}, "got alpha=1.5"),
            ({"pullback_momentum": "nonsense"}, "must be one of .*'none', 'reset', 'pullback'.*got .*'nonsense'"),
        ),
    ),
    "SAM": WrapperCase(
        SAM,
        around(SAM),
        {"rho": 0.3},
        {"rho": 0.0},
        (
            ({"rho": -0.1}, "rho must be a finite number >= 0, got rho=-0.1"),
            ({"rho": NAN}, "got rho=nan"),
            ({"adaptive": 1}, "adaptive must be True or False, got adaptive=1"),
            ({"eta": -1.0}, "eta must be .* got eta=-1.0"),
        ),
        closure=True,
    ),
    "ASAM": WrapperCase(ASAM, around(ASAM), {"rho": 0.3}, {"rho": 0.0}, (({"rho": -0.1}, "ASAM: rho"),), closure=True),
    "PCGrad": WrapperCase(
        PCGrad,
        PCGrad,
        {"reduction": "mean"},
        {"reduction": "sum"},
        (({"reduction": "max"}, r"reduction must be one of \('mean', 'sum'\), got reduction='max'"),),
    ),
    "AGC": WrapperCase(
        AGC,
        AGC,
        {"clipping": 0.05},
        {"clipping": None},
        (
            ({"clipping": -0.1}, "clipping must be a finite number >= 0, or None, got clipping=-0.1"),
            ({"agc_eps": -1e-3}, "agc_eps must be a finite number >= 0"),
        ),
    ),
    "GradientCentralization": WrapperCase(
        GradientCentralization,
        GradientCentralization,
        {},
        {"gc_conv_only": True},
        (({"gc_conv_only": None}, "gc_conv_only must be True or False"),),
    ),
    "GradientNormalization": WrapperCase(
        GradientNormalization,
        GradientNormalization,
        {"use_channels": True},
        {},
        (({"use_channels": 1}, "use_channels must be True or False"), ({"norm_eps": -1}, "norm_eps must be")),
    ),
    "NormLoss": WrapperCase(
        NormLoss,
        NormLoss,
        {"norm_loss_factor": 0.3},
        {"norm_loss_factor": 0.0},
        (({"norm_loss_factor": -1.0}, "norm_loss_factor must be"), ({"norm_loss_eps": NAN}, "norm_loss_eps must be")),
    ),
}
INNER: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.1),
    "AdamSRT": lambda params: AdamSRT(params, lr=0.1, channel_dims=()),
    "stateless": lambda params: torch.optim.SGD(params, lr=0.1),
}
NESTED: dict[str, Build] = {
    "Lookahead-AGC": lambda inner: Lookahead(AGC(inner, clipping=0.05), k=2),
    "AGC-Lookahead": lambda inner: AGC(Lookahead(inner, k=2), clipping=0.05),
    "Lookahead-Lookahead": lambda inner: Lookahead(Lookahead(inner, k=2), k=3, alpha=0.3),
    "SAM-AGC": lambda inner: around(SAM)(AGC(inner, clipping=0.05), rho=0.3),
    "AGC-SAM": lambda inner: AGC(around(SAM)(inner, rho=0.3), clipping=0.05),
    "NormLoss-SAM": lambda inner: NormLoss(around(SAM)(inner, rho=0.3), norm_loss_factor=0.3),
    "Lookahead-SAM": lambda inner: Lookahead(around(SAM)(inner, rho=0.3), k=2),
    "Lookahead-GC-AGC": lambda inner: Lookahead(GradientCentralization(AGC(inner, clipping=0.05)), k=2),
    "PCGrad-Lookahead": lambda inner: PCGrad(Lookahead(inner, k=2), reduction="sum"),
    "Lookahead-PCGrad": lambda inner: Lookahead(PCGrad(inner), k=2),
}
SHAPES = {"weight": (3, 4), "kernel": (2, 2, 2, 2), "bias": (5,), "scalar": ()}


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(3)
    return {n: Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for n, s in SHAPES.items()}


def loss_of(params: Mapping[str, Parameter], t: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 + t)
    targets = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params.values()]
    terms = [(p - x.to(p.dtype)).square().sum() for p, x in zip(params.values(), targets, strict=True)]
    return sum(terms, torch.zeros((), dtype=terms[0].dtype)) + 0.01 * terms[0] ** 2


def needs_pc(optimizer: Any) -> Any:
    """Return the PCGrad in a chain of wrappers, if there is one."""
    while isinstance(optimizer, wrappers.Lookahead | wrappers.PCGrad):
        if isinstance(optimizer, PCGrad):
            return optimizer
        optimizer = optimizer.optimizer
    return None


def step(optimizer: Any, params: Mapping[str, Parameter], t: int) -> None:
    """Do one training step in the way that the wrapper wants it."""
    optimizer.zero_grad()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(params, t)
        loss.backward()
        return loss

    surgeon = needs_pc(optimizer)
    if surgeon is not None:
        surgeon.pc_backward([loss_of(params, t)])
    else:
        closure()
    optimizer.step(closure) if getattr(optimizer, "needs_closure", False) else optimizer.step()


def tensors(optimizer: Any, params: Mapping[str, Parameter]) -> dict[str, Tensor]:
    found = {name: p.detach().clone() for name, p in params.items()}
    for name, p in params.items():
        values = optimizer.state.get(p, {})
        found |= {f"{name}/{key}": x.clone() for key, x in values.items() if isinstance(x, Tensor)}
    return found


def assert_same(got: Mapping[str, Tensor], want: Mapping[str, Tensor], rtol: float = 0.0) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=rtol, atol=0, msg=lambda m, name=name: f"{name}: {m}")
