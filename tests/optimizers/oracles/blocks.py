"""The dense partition: a block number for every entry."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def labels(shape: Sequence[int], dims: Sequence[int] | None, groups: int | None) -> Labels:
    """Number the blocks in the order of their index along the channel dims."""
    shape = tuple(shape) or (1,)
    if dims is None:
        return np.arange(int(np.prod(shape))).reshape(shape)
    kept = [dim % len(shape) for dim in dims]
    index = list(np.indices(shape))
    if groups is not None:
        index[kept[0]] = index[kept[0]] * groups // shape[kept[0]]
    label = np.zeros(shape, dtype=np.int64)
    for dim in sorted(kept):
        label = label * (index[dim].max(initial=0) + 1) + index[dim]
    return label


def inner(a: Array, b: Array, label: Labels) -> Array:
    """One inner product per block."""
    return np.bincount(label.ravel(), (a * b).ravel()).astype(np.float64)


def block_size(label: Labels) -> int:
    return label.size // (int(label.max()) + 1)
