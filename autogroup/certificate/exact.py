"""Arithmetic in which scale invariance holds to rounding error.

Real models blur the identity on purpose: every norm adds an eps, many norms compute in float32, dropout draws
random masks. ``exact`` takes those three away, below autograd and at the level of ATen operators, so that library
norms, functional norms and hand-written norms are treated alike.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from autogroup.capture.untouched import untouched

TINY = 1e-20
"""What every eps becomes: small enough to vanish in float64, large enough that 0 / (0 + eps) stays finite."""

LARGEST_EPS = 1e-3
"""A literal added to a tensor, or bounding it from below, counts as an eps up to this value."""

_aten = torch.ops.aten
_WIDE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex32: torch.complex128,
}
_TAKES_EPS = (_aten.add, _aten.add_, _aten.clamp_min, _aten.clamp_min_, _aten.clamp, _aten.clamp_)
_DRAW_IN_PLACE = (_aten.bernoulli_,)
_DRAW = (_aten.bernoulli, _aten.bernoulli.p)
_UNIFORM = (_aten.rand, _aten.rand_like)
_REINTERPRET = (_aten.view,)


class ExactMode(TorchDispatchMode):
    """Run ATen operators in float64, with every eps at ``TINY`` and every random mask at one."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Rewrite one call; ``func`` is an ATen overload."""
        packet = func.overloadpacket
        if packet in _DRAW_IN_PLACE:
            return _aten.fill_.Scalar(args[0], 1.0)
        if packet in _DRAW:
            return _aten.ones_like.default(args[0])
        if packet is _aten.native_dropout:
            return _keep_all(*args)
        named: dict[str, Any] = dict(kwargs or {})
        if packet not in _REINTERPRET:
            args, named = tree_map(_widen_dtype, args), tree_map(_widen_dtype, named)
        args = _widen_constants(func, args)
        if packet in _TAKES_EPS and len(args) > 1 and _is_eps(args[1]):
            args = (args[0], TINY, *args[2:])
        elif "norm" in str(packet) and not _normalizes_single_elements(packet, args):
            args, named = _shrink_eps(func, args, named)
        elif packet is _aten.embedding_dense_backward:
            # The gradient of a padding row is dropped on purpose; that of the loss is not.
            args = (*args[:3], -1, *args[4:])
        out = func(*args, **named)
        # A mask drawn as floor(keep + rand()) or rand() > drop is all ones when rand() is just below 1.
        return out.mul_(LARGEST_EPS).add_(1 - 2 * LARGEST_EPS) if packet in _UNIFORM else out


def _normalizes_single_elements(packet: Any, args: tuple[Any, ...]) -> bool:
    """Whether every fibre of a centered norm is one element: 0 / eps, which a tiny eps fills with noise."""
    if packet is _aten.native_layer_norm:
        return prod(args[1]) == 1
    if packet is _aten.native_group_norm:
        channels, space, groups = args[4:7]
        return channels // groups * space == 1
    return False


def _keep_all(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """Dropout that drops nothing but keeps the factor 1 / (1 - p), which its backward applies too."""
    scale = 1 / (1 - p) if train is not False and p < 1 else 1.0
    return x * scale, torch.ones_like(x, dtype=torch.bool)


def _widen_dtype(value: Any) -> Any:
    return _WIDE.get(value, value) if isinstance(value, torch.dtype) else value


def _is_eps(value: Any) -> bool:
    return isinstance(value, float) and 0 < value <= LARGEST_EPS


def _widen_constants(func: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Widen float32 constants (tensors kept outside parameters and buffers) that meet float64 operands."""
    dtypes = {a.dtype for a in args if isinstance(a, Tensor)}
    if not (dtypes & {torch.float64, torch.complex128} and dtypes & _WIDE.keys()):
        return args
    written = {i for i, a in enumerate(func._schema.arguments) if a.alias_info is not None and a.alias_info.is_write}
    return tuple(
        a.to(_WIDE[a.dtype]) if isinstance(a, Tensor) and a.dtype in _WIDE and i not in written else a
        for i, a in enumerate(args)
    )


def _shrink_eps(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Replace the ``eps`` argument of a normalization, wherever it stands."""
    changed = list(args)
    for i, argument in enumerate(func._schema.arguments):
        if argument.name in ("eps", "epsilon"):
            if i < len(changed):
                changed[i] = TINY
            else:
                kwargs[argument.name] = TINY
    return tuple(changed), kwargs


@contextmanager
def exact(model: nn.Module, mode: str, seed: int) -> Generator[None]:
    """Enter ``ExactMode`` with float64 as the default dtype and all random generators at ``seed``.

    Args:
        model: what runs inside; nothing of it but parameters and buffers changes for good, see ``untouched``.
        mode: "train" or "eval".
        seed: for Python's, NumPy's and torch's generators, whose states are put back on exit.
    """
    dtype = torch.get_default_dtype()
    autocast_off = torch.autocast("cpu", enabled=False)
    try:
        with untouched(model, training=mode == "train"), autocast_off, ExactMode():
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(seed % 2**32)
            torch.set_default_dtype(torch.float64)
            yield
    finally:
        torch.set_default_dtype(dtype)
