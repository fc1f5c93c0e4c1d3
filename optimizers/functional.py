"""Pure functions on one tensor: what several algorithms do to gradients and weights. Nothing is changed in place.

A *row* is a slice along dim 0 (an output unit) of a tensor with two or more dims, and the whole tensor otherwise. Half
precision is computed in float32 and rounded once at the end. Sharded tensors (DTensor) give what the whole one gives.
"""

import torch
from torch import Tensor

from optimizers._math import TINY, Blocks, clip_blocks, resolve, rows
from optimizers._slots import compute_dtype


def _wide(x: Tensor) -> Tensor:
    return x.to(compute_dtype(x.dtype))


def agc(p: Tensor, g: Tensor, clipping: float = 1e-2, agc_eps: float = 1e-3, blocks: Blocks | None = None) -> Tensor:
    r"""Clip each row of a gradient to a fraction of the norm of that row of the weight (adaptive gradient clipping).

    With :math:`\ell = c\max(\|\theta\|, \epsilon)` the row :math:`g` becomes :math:`g\,\ell/\|g\|` where
    :math:`\|g\| > \ell`.

    Args:
        p: the weight θ.
        g: its gradient.
        clipping: c ≥ 0, the largest ratio of the norms.
        agc_eps: ε ≥ 0, so that rows that start at zero can move.
        blocks: what to clip together; ``None``: rows.

    Returns:
        The clipped gradient. Rows within the limit are what they were, bit for bit.

    Source:
        A. Brock et al., "High-performance large-scale image recognition without normalization", arXiv 2102.06171.

    Example:
        >>> weight, gradient = torch.ones(2, 4), torch.tensor([[3.0, 0, 0, 0], [0.1, 0, 0, 0]])
        >>> agc(weight, gradient, clipping=0.5)
        tensor([[1.0000, 0.0000, 0.0000, 0.0000],
                [0.1000, 0.0000, 0.0000, 0.0000]])
    """
    blocks = rows(tuple(g.shape)) if blocks is None else blocks
    return clip_blocks(_wide(p), _wide(g), blocks, clipping, agc_eps).to(g.dtype)


def centralize_gradient(g: Tensor, gc_conv_only: bool = False) -> Tensor:
    """Subtract from each row of a gradient its mean (gradient centralization).

    Args:
        g: the gradient. With fewer than two dims it is returned as it is.
        gc_conv_only: treat only gradients of more than three dims.

    Returns:
        The centralized gradient. A row of one entry becomes zero.

    Source:
        H. Yong et al., "Gradient centralization: a new optimization technique for deep neural networks",
        arXiv 2004.01461.

    Example:
        >>> centralize_gradient(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
        tensor([[-1.,  1.],
                [ 0.,  0.]])
    """
    if g.ndim <= (3 if gc_conv_only else 1):
        return g
    blocks, wide = rows(tuple(g.shape)), _wide(g)
    return (wide - blocks.sum(wide) / blocks.size).to(g.dtype)


def normalize_gradient(g: Tensor, use_channels: bool = False, eps: float = 1e-8) -> Tensor:
    """Divide a gradient by its (unbiased) standard deviation; its mean stays.

    Args:
        g: the gradient. With two entries or fewer it is returned as it is.
        use_channels: divide each row of a gradient of two or more dims by its own deviation; rows of one entry stay.
        eps: added to the deviation, ≥ 0.

    Returns:
        The normalized gradient.

    Source:
        L. Wright, N. Demeure, "Ranger21: a synergistic deep learning optimizer", arXiv 2106.13731.

    Example:
        >>> normalize_gradient(torch.tensor([1.0, 2.0, 3.0]) * 100)
        tensor([1., 2., 3.])
    """
    by_row = use_channels and g.ndim > 1
    blocks = rows(tuple(g.shape)) if by_row else resolve(tuple(g.shape), (), None)
    if blocks.size <= (1 if by_row else 2):
        return g
    wide = _wide(g)
    from_mean = wide - blocks.sum(wide) / blocks.size
    deviation = (blocks.dot(from_mean, from_mean) / (blocks.size - 1)).sqrt()
    return (wide / (deviation + (eps + TINY))).to(g.dtype)


def norm_loss(p: Tensor, lr: float | Tensor, factor: float = 1e-4, eps: float = 1e-8) -> Tensor:
    r"""Take a step down the norm loss, which pulls the norm of each row of a weight to 1.

    .. math::
        \theta\left(1 - 2\eta f\left(1 - \frac{1}{\|\theta\| + \epsilon}\right)\right), \qquad
        \text{a step on } f\sum_{\text{rows}} (1 - \|\theta\|)^2

    Args:
        p: the weight θ.
        lr: η ≥ 0.
        factor: f ≥ 0.
        eps: ε ≥ 0. Rows of zeros stay zero.

    Returns:
        The new weight.

    Source:
        T. Georgiou et al., "Norm loss: an efficient yet effective regularization method for deep neural networks",
        arXiv 2103.06583.

    Example:
        >>> norm_loss(torch.tensor([[2.0, 0.0], [0.5, 0.0]]), lr=0.1, factor=1.0)
        tensor([[1.8000, 0.0000],
                [0.6000, 0.0000]])
    """
    wide = _wide(p)
    excess = 1 - 1 / (rows(tuple(p.shape)).norm(wide) + (eps + TINY))
    return (wide * (1 - excess * (2 * lr * factor))).to(p.dtype)


def softplus(x: Tensor, beta: float = 50.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(βx)) / β, and x itself where βx > ``threshold``: a smooth denominator for Adam and its kin.

    In place of √v̂ + ε it bounds the step where v is small, and changes nothing where v is large.

    Args:
        x: the denominator √v̂, ≥ 0.
        beta: β > 0; the value at 0 is log(2)/β.
        threshold: beyond it the difference is below rounding.

    Returns:
        The calibrated denominator.

    Source:
        Q. Tong et al., "Calibrating the adaptive learning rate to improve convergence of ADAM", arXiv 1908.00700.

    Example:
        >>> softplus(torch.tensor([0.0, 1.0]))
        tensor([0.0139, 1.0000])
    """
    return torch.nn.functional.softplus(x, beta, threshold)


def matrix_inverse_root(matrix: Tensor, root: int, eps: float = 0.0) -> Tensor:
    r"""Return :math:`M^{-1/r}` of a symmetric positive semidefinite matrix, by its eigenvalues.

    Args:
        matrix: M, ``[..., n, n]``; only its symmetric part counts.
        root: r ≥ 1.
        eps: smaller eigenvalues, also those that rounding made negative, are raised to this, ≥ 0.

    Returns:
        The root, symmetric, in the dtype of ``matrix``.

    Source:
        V. Gupta et al., "Shampoo: preconditioned stochastic tensor optimization", arXiv 1802.09568, section 3.

    Example:
        >>> matrix_inverse_root(torch.tensor([[4.0, 0.0], [0.0, 16.0]]), root=2)
        tensor([[0.5000, 0.0000],
                [0.0000, 0.2500]])
    """
    wide = _wide(matrix)
    values, vectors = torch.linalg.eigh((wide + wide.mT) / 2)
    scales = values.clamp_min(max(eps, TINY)).pow(-1 / root)
    return ((vectors * scales.unsqueeze(-2)) @ vectors.mT).to(matrix.dtype)
