"""Numbers of the whole model, computed where the tensors are: no step waits for a device."""

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
    sums: list[Any] = list(torch._foreach_norm([x for x, _ in filled], 1))  # pyright: ignore[reportPrivateUsage]
    sums = [x.full_tensor() if hasattr(x, "placements") else x for x in sums]
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
    norms: list[Any] = [torch.linalg.vector_norm(x, dtype=compute_dtype(x.dtype)) for x in tensors]
    norms = [x.full_tensor() if hasattr(x, "placements") else x for x in norms]
    dtype = reduce(torch.promote_types, (x.dtype for x in norms))
    # Sorted for the same reason as above.
    return torch.stack([x.to(norms[0].device, dtype) for x in norms]).square().sort().values.sum().sqrt()
