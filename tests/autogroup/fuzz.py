"""Random programs: a few tensors, a dozen random operators, a norm somewhere. No claim about them may be false.

Every program is a function of a seed, so a failure is reproduced by its number.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH, CHANNELS, SPACE = 4, 6, 5
Step = Callable[["Program", list[Tensor]], Tensor]
"""A step gets the module, since a copy of a program must use the copy's parameters."""


class Program(nn.Module):
    """A random forward on values of shape [batch, channels, space].

    Args:
        seed: decides everything.
        length: number of operators between the first layer and the head.
    """

    def __init__(self, seed: int, length: int = 9) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self._rng = random.Random(seed)
        self._steps = [self._conv(), *(self._step() for _ in range(length)), self._norm()]
        self.head = nn.Linear(SPACE, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.values(x)[-1])

    def values(self, x: Tensor) -> list[Tensor]:
        """The input and the result of every step."""
        values = [x]
        for step in self._steps:
            values.append(step(self, values))
        return values

    def has_constant_fibres(self, x: Tensor) -> bool:
        """Whether some value is constant along an axis, so that a norm of it would divide zero by its eps."""
        with torch.no_grad():
            return any(bool((v.std(axis) < 1e-9).any()) for v in self.values(x)[1:] for axis in (1, 2))

    # --- parameters and picks, drawn once when the program is made -----------------------------------------

    def _weight(self, *shape: int) -> int:
        self.weights.append(nn.Parameter(torch.randn(shape)))
        return len(self.weights) - 1

    def _pick(self) -> Callable[[list[Tensor]], Tensor]:
        back = self._rng.choice((1, 1, 1, 2, 3))
        return lambda values: values[-min(back, len(values) - 1) if len(values) > 1 else -1]

    # --- operators -------------------------------------------------------------------------------------------

    def _conv(self) -> Step:
        kernel, groups = self._rng.choice((1, 3)), self._rng.choice((1, 1, 2, 3, 6))
        padding = kernel // 2
        weight = self._weight(CHANNELS, CHANNELS // groups, kernel)
        bias = self._weight(CHANNELS) if self._rng.random() < 0.3 else None
        pick = self._pick()
        return lambda m, v: F.conv1d(
            pick(v), m.weights[weight], None if bias is None else m.weights[bias], padding=padding, groups=groups
        )

    def _linear(self) -> Step:
        weight = self._weight(SPACE, SPACE)
        bias = self._weight(SPACE) if self._rng.random() < 0.3 else None
        pick = self._pick()
        return lambda m, v: F.linear(pick(v), m.weights[weight], None if bias is None else m.weights[bias])

    def _norm(self) -> Step:
        pick, gain = self._pick(), self._weight(CHANNELS)
        kind = self._rng.choice(("batch", "layer", "group2", "group3", "instance", "rms", "hand", "hand_center"))
        return {
            "batch": lambda m, v: F.batch_norm(pick(v), None, None, m.weights[gain], training=True),
            "layer": lambda m, v: F.layer_norm(pick(v), (SPACE,)),
            "group2": lambda m, v: F.group_norm(pick(v), 2, m.weights[gain]),
            "group3": lambda m, v: F.group_norm(pick(v), 3),
            "instance": lambda m, v: F.instance_norm(pick(v)),
            "rms": lambda m, v: F.rms_norm(pick(v), (SPACE,)),
            "hand": lambda m, v: pick(v) * torch.rsqrt(pick(v).pow(2).mean(1, keepdim=True) + 1e-6),
            "hand_center": lambda m, v: _centered(pick(v)) / (_centered(pick(v)).norm(dim=-1, keepdim=True) + 1e-6),
        }[kind]

    def _step(self) -> Step:
        return self._rng.choice(
            (self._conv, self._linear, self._norm, self._simple, self._simple, self._simple, self._pair)
        )()

    def _simple(self) -> Step:
        pick, weight = self._pick(), self._weight(CHANNELS, 1)
        wide = self._weight(SPACE)
        name = self._rng.choice(sorted(_SIMPLE))
        return lambda m, v: _SIMPLE[name](pick(v), m.weights[weight], m.weights[wide])

    def _pair(self) -> Step:
        left, right = self._pick(), self._pick()
        name = self._rng.choice(sorted(_PAIR))
        return lambda m, v: _PAIR[name](left(v), right(v))


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _zeroed(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2:4].zero_()
    return y


def _overwritten(x: Tensor, y: Tensor) -> Tensor:
    z = x.clone()
    z[:, :, 1:3].copy_(y[:, :, 2:4])
    z[:, 4].mul_(2)
    return z


_MASK = torch.tensor([True, False, True, True, False])

# Gates and cubes are kept tame: a value of 1e-15 before a norm is decided by the norm's eps, not by the mathematics.
_SIMPLE: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "relu": lambda x, g, b: F.relu(x),
    "relu_": lambda x, g, b: (x + 0).relu_(),
    "leaky": lambda x, g, b: F.leaky_relu(x, 0.1),
    "abs": lambda x, g, b: x.abs(),
    "gelu": lambda x, g, b: F.gelu(x),
    "tanh": lambda x, g, b: torch.tanh(x),
    "softmax": lambda x, g, b: x.softmax(-1),
    "twice": lambda x, g, b: 2 * x,
    "plus_one": lambda x, g, b: x + 1,
    "center": lambda x, g, b: x - x.mean(-1, keepdim=True),
    "center_channels": lambda x, g, b: x - x.mean(1, keepdim=True),
    "gain": lambda x, g, b: x * g,
    "shift": lambda x, g, b: x + g,
    "wide_gain": lambda x, g, b: x * b,
    "wide_shift": lambda x, g, b: x - b,
    "over_gain": lambda x, g, b: x / (1 + g.square()),
    "roll": lambda x, g, b: x.roll(1, -1),
    "flip": lambda x, g, b: x.flip(1),
    "shuffle": lambda x, g, b: x.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2),
    "pad_cut": lambda x, g, b: F.pad(x, (1, 0))[..., :-1],
    "swap": lambda x, g, b: torch.cat(x.chunk(2, 1)[::-1], 1),
    "zero_rows": lambda x, g, b: _zeroed(x),
    "mask": lambda x, g, b: x.masked_fill(_MASK, 0.0),
    "where": lambda x, g, b: torch.where(x > 0, x, 0.1 * x),
    "max_pool": lambda x, g, b: F.max_pool1d(x, 3, 1, 1),
    "avg_pool": lambda x, g, b: F.avg_pool1d(x, 3, 1, 1),
    "avg_pool_inside": lambda x, g, b: F.avg_pool1d(x, 3, 1, 1, count_include_pad=False),
    "detached_norm": lambda x, g, b: x / x.norm(dim=1, keepdim=True).detach(),
    "unit": lambda x, g, b: F.normalize(x, dim=1),
    "spread": lambda x, g, b: x / (x.std(-1, keepdim=True) + 1e-6),
    "gate": lambda x, g, b: x * torch.sigmoid(g),
    "squeeze_excite": lambda x, g, b: x * torch.sigmoid(F.layer_norm(x, (SPACE,)).amax(-1, keepdim=True)),
    "sorted": lambda x, g, b: x.sort(-1).values,
    "picked": lambda x, g, b: x[:, torch.tensor([5, 0, 0, 2, 3, 1])],
    "gram": lambda x, g, b: torch.einsum("bcs,bds->bcd", F.normalize(x, dim=1), x) @ x,
    "standardized": lambda x, g, b: x * (g - g.mean()) / (g.var() + 1e-6).sqrt(),
}

_PAIR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "add_": lambda x, y: (x * 1).add_(y),
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y.abs().amax(1, keepdim=True) + 1e-6),
    "maximum": torch.maximum,
    "mix": lambda x, y: torch.cat([x[:, :3], y[:, 3:]], 1),
    "overwrite": _overwritten,
    "attend": lambda x, y: (x @ y.mT).softmax(-1) @ y,
    "linear_attend": lambda x, y: (x @ F.normalize(y, dim=-1).mT) @ y,
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
}


def example(seed: int) -> Tensor:
    """An input for a program."""
    return torch.randn(BATCH, CHANNELS, SPACE, generator=torch.Generator().manual_seed(seed))
