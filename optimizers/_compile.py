"""The compiled path: one graph per rule and tensor layout, reused for every size, every step and every optimizer.

Numbers enter as 0-d tensors, so neither a scheduler nor the step count recompiles anything. Sizes are symbolic, so all
3x3 convolutions share a graph. Graphs are per parameter, so a parameter that starts late changes no other graph.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from optimizers._hyper import Hyper
from optimizers._math import Blocks, Cut

Rule = Callable[..., None]


class Layout(NamedTuple):
    """What a graph is specialised on. Two parameters with equal layouts share one graph."""

    rule: Rule
    flags: tuple[tuple[str, bool], ...]
    names: tuple[str, ...]
    blocks: Blocks
    tensors: tuple[object, ...]


def _pattern(x: Tensor | None, seen: dict[int, int]) -> object:
    """Return what symbolic shapes still specialise on: sizes 0 and 1, equal sizes, order of strides, dtype, device."""
    if x is None:
        return None
    sizes = tuple(n if n < 2 else -seen.setdefault(n, len(seen) + 1) for n in x.shape)
    if x.ndim == 3 and x.shape[2] in (LANES, RUN):
        sizes = (sizes[0], sizes[1], x.shape[2])
    strides = x.stride()
    order = tuple(sorted((d for d in range(x.ndim) if x.shape[d] > 1), key=lambda d: (-strides[d], d)))
    spec = getattr(x, "device_mesh", None), getattr(x, "placements", None)
    return sizes, order, x.is_contiguous(), x.dtype, x.device, spec


def layout_of(
    rule: Rule, tensors: Sequence[Tensor | None], blocks: Blocks, flags: dict[str, bool], names: tuple[str, ...]
) -> Layout:
    """Return the key under which the graph for these arguments is kept."""
    seen: dict[int, int] = {}
    cut = None if blocks.cut is None else Cut(blocks.cut.dim, blocks.cut.pieces, 0)
    stripped = type(blocks)(blocks.dims, cut, 0, ())
    return Layout(rule, tuple(flags.items()), names, stripped, tuple(_pattern(x, seen) for x in tensors))


# Inductor 2.13 fails on the CPU for some rules with several reductions (a KeyError while it fuses their loops), unless
# loops are fused less. Tried later, because it runs a little slower.
ATTEMPTS: tuple[dict[str, int] | None, ...] = (None, {"cpp.max_horizontal_fusion_size": 1}, {"max_fusion_size": 4})


@cache
def compiled(layout: Layout, attempt: int) -> Callable[[list[Tensor | None], list[Tensor]], None]:
    """Return the compiled function for one layout. Nothing is compiled before its first call."""
    rule, flags, names, blocks = layout.rule, dict(layout.flags), layout.names, layout.blocks

    def entry(tensors: list[Tensor | None], numbers: list[Tensor]) -> None:
        rule(*tensors, Hyper(blocks, flags, dict(zip(names, numbers, strict=True))))

    # Dynamo counts (and limits) recompilations per code object, so each layout gets a code object of its own.
    code = entry.__code__.replace(co_name=f"rule_{compiled.cache_info().misses}")
    fresh = FunctionType(code, entry.__globals__, code.co_name, None, entry.__closure__)
    return cast("Callable[..., Any]", torch.compile)(fresh, dynamic=True, fullgraph=True, options=ATTEMPTS[attempt])


LANES, RUN = 16, 512
"""Elements of the widest vector register; and of partial sums, since Inductor is slow with more than 4,096 in a row."""


class Lanes(Blocks):
    """Blocks of [blocks, size/n, n] with a static n: loops over a row have no remainder."""

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over each block."""
        return x.sum(2, keepdim=True).sum(1, keepdim=True) if x.shape[2] == RUN else x.sum((1, 2), keepdim=True)


def _plain(tensors: Sequence[Tensor | None], blocks: Blocks) -> tuple[list[Tensor | None], Blocks]:
    """Return tensors that share the storage of ``tensors`` and need as few graphs as possible, with their blocks.

    Parameters would be compiled with static shapes, plain tensors are not. Without blocks the shape does not matter, so
    all contiguous tensors share the graph for vectors. Matrices of long rows become [blocks, size/n, n].
    """
    plain = [None if x is None else x.detach() for x in tensors]
    if any(x is not None and (_sharded(x) or not x.is_contiguous()) for x in tensors):
        return plain, blocks
    if blocks.elementwise:
        return [None if x is None else x.view(-1) for x in plain], blocks
    lanes = RUN if blocks.size > 4096 and blocks.size % RUN == 0 else LANES
    if blocks.dims == (1,) and blocks.cut is None and blocks.size % lanes == 0 and blocks.size > lanes:
        cut = [None if x is None else x.view(len(x), -1, lanes if x.shape[1] > 1 else 1) for x in plain]
        for x in cut:
            if x is not None and x.shape[2] > 1:
                torch._dynamo.mark_static(x, 2)  # pyright: ignore[reportPrivateUsage]
        return cut, Lanes((1, 2), None, blocks.size, (blocks.shape[0], 1, 1))
    return plain, blocks


def _sharded(x: Tensor) -> bool:
    return hasattr(x, "placements")


class Compiler:
    """Runs rules compiled, or eagerly (after one warning) what this machine cannot compile."""

    def __init__(self) -> None:
        self._failures: dict[Layout, int] = {}
        self._warned = False
        self._numbers: dict[object, list[Tensor]] = {}

    def run(
        self,
        rule: Rule,
        tensors: list[Tensor | None],
        blocks: Blocks,
        flags: dict[str, bool],
        values: dict[str, float],
        shared: Mapping[str, Tensor],
    ) -> None:
        """Apply ``rule``, which changes ``tensors`` in place."""
        plain, form = _plain(tensors, blocks)
        layout = layout_of(rule, plain, form, flags, (*values, *shared))
        while (attempt := self._failures.get(layout, 0)) < len(ATTEMPTS):
            try:
                compiled(layout, attempt)(plain, [*self._as_tensors(values, plain), *shared.values()])
            except RuntimeError as error:
                # Compilers fail before the graph runs, so nothing has been changed yet. Other errors are not ours.
                if not _is_compiler_error(error):
                    raise
                self._failures[layout] = attempt + 1
                if attempt + 1 == len(ATTEMPTS):
                    self._warn(str(error).strip().split("\n")[0])
            else:
                return
        rule(*tensors, Hyper(blocks, flags, {**values, **shared}))

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"impl='compiled' runs eagerly, compiling failed: {reason}", RuntimeWarning, stacklevel=2)

    def forget_numbers(self) -> None:
        """Drop the numbers of the last step."""
        self._numbers.clear()

    def _as_tensors(self, values: dict[str, float], tensors: Sequence[Tensor | None]) -> list[Tensor]:
        p = cast("Tensor", tensors[0])
        key = (p.dtype, p.device, tuple(values.values()))
        if key not in self._numbers:  # one transfer for all parameters that use the same numbers
            self._numbers[key] = list(torch.tensor(key[2], dtype=p.dtype, device=p.device).unbind())
        return self._numbers[key]


def _is_compiler_error(error: RuntimeError) -> bool:
    # torch.compile itself raises a bare RuntimeError where Dynamo does not exist for this Python or platform.
    home = type(error).__module__
    return home.startswith(("torch._dynamo", "torch._inductor")) or "torch.compile" in str(error)
