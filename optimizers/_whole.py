"""What needs whole tensors: numbers of the whole model, and sharded tensors (DTensor) as a whole.

Numbers are computed where the tensors are: no step waits for a device.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from optimizers._slots import compute_dtype


def inverse_rms(squares: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    r"""Return :math:`1/\bar v` with :math:`\bar v^2` = the mean of ``weight * square`` over the entries of all tensors.

    Args:
        squares: tensors with no negative entries, on any devices.
        weights: one number per tensor.

    Returns:
        A 0-d tensor; 0 if all squares are 0.
    """
    filled = [(x, weight) for x, weight in zip(squares, weights, strict=True) if x.numel()]
    if not filled:
        return torch.zeros(())
    sums = _norms([x for x, _ in filled], 1)
    dtype = reduce(torch.promote_types, (x.dtype for x in sums))
    terms = torch.stack([x.to(sums[0].device, dtype) * weight for x, (_, weight) in zip(sums, filled, strict=True)])
    # Sorted, so that the order of the parameters changes nothing, not even the rounding of the sum.
    mean = terms.sort().values.sum() / sum(x.numel() for x, _ in filled)
    return torch.where(mean > 0, mean.rsqrt(), 0)


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors together, as a 0-d tensor on the device of the first.

    Half precision is summed in float32.
    """
    if not tensors:
        return torch.zeros(())
    norms = _norms(tensors, 2)
    dtype = reduce(torch.promote_types, (x.dtype for x in norms))
    # Sorted for the same reason as above.
    return torch.stack([x.to(norms[0].device, dtype) for x in norms]).square().sort().values.sum().sqrt()


def gathered(x: Any) -> Tensor:
    """Return the whole of a sharded tensor, on every rank; any other tensor as it is."""
    return x.full_tensor() if hasattr(x, "placements") else x


def placed(x: Tensor, like: Any, source: int | None = None) -> Tensor:
    """Return ``x``, which is whole, sharded as ``like`` is.

    Args:
        x: a tensor of the shape of ``like``.
        like: any tensor; ``x`` is returned as it is if this one is not sharded.
        source: the rank whose ``x`` is sent to the others; ``None`` if all have the same one.
    """
    if not hasattr(like, "placements"):
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=source)


def _norms(tensors: Sequence[Tensor], order: int) -> list[Tensor]:
    """Return the norm of each tensor as a whole: one all-reduce for all sharded tensors (DTensor) that lie alike."""
    alike: defaultdict[object, list[int]] = defaultdict(list)
    for i, x in enumerate(tensors):
        alike[x.device, x.dtype, getattr(x, "device_mesh", None), getattr(x, "placements", None)].append(i)
    found: dict[int, Tensor] = {}
    for members in alike.values():
        column, dtype = [tensors[i] for i in members], compute_dtype(tensors[members[0]].dtype)
        norms: Any = torch._foreach_norm(column, order, dtype=dtype)  # pyright: ignore[reportPrivateUsage]
        found.update(zip(members, _whole(norms) if hasattr(column[0], "placements") else norms, strict=True))
    return [found[i] for i in range(len(tensors))]


def _whole(norms: Sequence[Any]) -> Sequence[Tensor]:
    """Return the norms of DTensors from what each rank has of them. They share a mesh and placements."""
    from torch.distributed.tensor import DTensor

    parts = torch.stack([norm.to_local() for norm in norms])
    return DTensor.from_local(parts, norms[0].device_mesh, norms[0].placements).full_tensor().unbind()
