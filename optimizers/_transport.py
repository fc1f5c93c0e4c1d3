"""Rescaling and transport of moments along spheres (Roburin et al., arXiv 2006.13382)."""

from typing import Any

from torch import Tensor


def step_and_transport(p: Tensor, m: Tensor, step: Any, blocks: Any, eps: float) -> Tensor:
    r"""Move p by ``step`` · m, then make m tangent to the sphere of each block at the new point; both in place.

    With x the old weight, the definition :math:`m \leftarrow (\langle x,p\rangle m - \langle m,p\rangle x) /
    (\langle p,p\rangle + \epsilon)` needs x and three products after the step. Since p = x + step · m, they follow from
    those before it, and the definition becomes a projection that needs no copy of x:
    :math:`m \leftarrow (\langle p,p\rangle m - \langle m,p\rangle p)/(\langle p,p\rangle + \epsilon)`.

    Args:
        p: weights.
        m: the moment the step goes along.
        step: a number, or one per block.
        blocks: the partition.
        eps: added to :math:`\langle p,p\rangle`; above 0.

    Returns:
        :math:`\langle x,x\rangle / (\langle p,p\rangle + \epsilon)`, by which squared moments are rescaled.
    """
    before, along, length = blocks.dot(p, p), blocks.dot(p, m), blocks.dot(m, m)
    along_after = length * step + along
    after = (along + along_after) * step + before
    norm2 = after + eps
    p.add_(m * step)
    m.mul_(after / norm2).addcmul_(p, along_after.div_(norm2), value=-1)
    return before.div_(norm2)
