"""Classes: a union-find over integer labels, on whole tensors at once."""

from __future__ import annotations

import torch
from torch import Tensor

from autogroup.algebra.labels import INDEPENDENT


class Classes:
    """Which labels mean the same; ``INDEPENDENT`` is a class of its own, and labels may be united with it.

    Args:
        count: number of labels to begin with; each is a class.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._parent = _fresh(count)

    def grow(self, count: int) -> Tensor:
        """Add labels, each a class of its own, and return them."""
        start, self.count = self.count, self.count + count
        if self.count >= self._parent.numel():
            old, self._parent = self._parent, _fresh(2 * self.count)
            self._parent[:start] = old[:start]
        return torch.arange(start, self.count)

    def find(self, labels: Tensor) -> Tensor:
        """Return the representative of every label."""
        found = self._parent[labels]
        while not torch.equal(further := self._parent[found], found):
            found = further
            self._parent[labels] = found
        return found

    def roots(self) -> Tensor:
        """Return the representative of all labels, in order."""
        return self.find(torch.arange(self.count))

    def unite(self, a: Tensor, b: Tensor) -> None:
        """Merge the classes of ``a[i]`` and ``b[i]`` for every i."""
        while True:
            a, b = torch.broadcast_tensors(self.find(a), self.find(b))
            pairs = a != b
            if not bool(pairs.any()):
                return
            a, b = a[pairs], b[pairs]
            self._parent.scatter_reduce_(0, torch.maximum(a, b), torch.minimum(a, b), "amin")


def _fresh(count: int) -> Tensor:
    # One more entry at the end, so that parent[INDEPENDENT] is INDEPENDENT without a branch.
    parent = torch.arange(count + 1)
    parent[-1] = INDEPENDENT
    return parent
