"""Empirical variational Bayes matrix factorization: how much structure is in a noisy matrix (Nakajima et al. 2013)."""

from math import ceil, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optimizers._slots import compute_dtype

POINTS, ROUNDS = 257, 4
"""The noise variance is looked for among 257 points, four times, each time between the neighbours of the best one."""


class Factorization(NamedTuple):
    """The signal in a matrix.

    Attributes:
        values: singular values of the low-rank part, largest first; float64 on the CPU.
        variance: variance of the noise in each entry.
        gain: knowledge gain, the sum of ``values`` relative to the largest one, per row; in [0, 1].
    """

    values: Tensor
    variance: float
    gain: float

    @property
    def rank(self) -> int:
        """Number of singular values that rise above the noise."""
        return len(self.values)


@torch.no_grad()
def evbmf(matrix: Tensor) -> Factorization:
    r"""Split a matrix into a low-rank part and noise, with the noise variance and the rank found from the matrix alone.

    For a matrix of :math:`L \le M` rows and columns (or transposed) with singular values s, :math:`\alpha = L/M`,
    :math:`\bar\tau = 2.5129\sqrt\alpha` and :math:`\bar x = (1+\bar\tau)(1+\alpha/\bar\tau)`, the noise variance
    :math:`\sigma^2` minimizes, with :math:`x = s^2/(M\sigma^2)` and
    :math:`\tau = \frac12(x-1-\alpha+\sqrt{(x-1-\alpha)^2-4\alpha})`,

    .. math::
        \sum_{x \le \bar x} (x - \ln x) + \sum_{x > \bar x}
        \Bigl(x - \tau + \ln\frac{\tau+1}{x} + \alpha\ln\Bigl(\frac\tau\alpha + 1\Bigr)\Bigr)

    Values with :math:`x > \bar x` are signal, shrunk to
    :math:`\frac s2\bigl(1 - \frac{(L+M)\sigma^2}{s^2} + \sqrt{(1-\frac{(L+M)\sigma^2}{s^2})^2 -
    \frac{4LM\sigma^4}{s^4}}\bigr)`. The minimum is global up to the resolution of the search, and does not depend on
    the unit in which the matrix is given.

    Args:
        matrix: ``[n, m]`` of any floating dtype. A DTensor is gathered.

    Returns:
        The signal. A matrix of zeros has none.

    Source:
        S. Nakajima et al., "Global analytic solution of fully-observed variational Bayesian matrix factorization",
        Journal of Machine Learning Research 14, 2013.

    Example:
        >>> noise = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
        >>> found = evbmf(noise + 5 * torch.ones(20, 30))
        >>> found.rank, round(found.variance, 1), round(found.gain, 2)
        (1, 1.0, 0.05)
    """
    whole: Any = matrix.full_tensor() if hasattr(matrix, "placements") else matrix  # type: ignore[attr-defined]
    dtype = compute_dtype(whole.dtype)
    s = torch.linalg.svdvals(whole.to(dtype)).double().cpu()
    largest = s.max().item() if s.numel() else 0.0
    if largest == 0:
        return Factorization(s[:0], 0.0, 0.0)
    s = (s / largest).clamp_min(max(1e-12, 10 * torch.finfo(dtype).eps))  # below this there is only rounding
    short, long = sorted(whole.shape)
    tau = 2.5129 * sqrt(short / long)
    bound = (1 + tau) * (1 + short / long / tau)
    variance = _noise(s.square(), short, long, bound)
    s = s[s > sqrt(long * variance * bound)]
    rest = 1 - (short + long) * variance / s.square()
    root = (rest.square() - 4 * short * long * variance**2 / s.pow(4)).clamp_min(0).sqrt()
    values = s / 2 * (rest + root)
    gain = (values.sum() / values[0]).item() / whole.shape[0] if len(values) else 0.0
    return Factorization(values * largest, variance * largest**2, gain)


def _noise(squares: Tensor, short: int, long: int, bound: float) -> float:
    """Return the noise variance for the squared singular values. Searched on a log scale: it has no unit."""
    alpha = short / long
    first_noise = min(ceil(short / (1 + alpha)) - 1, short - 1)
    tail = squares[first_noise:]
    high = squares.sum() / (short * long)
    low = torch.maximum(tail[0] / bound, tail.mean()).div(long).minimum(high)
    left, right = low.log(), high.log()
    for _ in range(ROUNDS):
        grid = torch.linspace(float(left), float(right), POINTS, dtype=squares.dtype)
        best = int(_free_energy(squares / (long * grid.exp().unsqueeze(1)), alpha, bound).argmin())
        left, right = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    return float(((left + right) / 2).exp())


def _free_energy(x: Tensor, alpha: float, bound: float) -> Tensor:
    middle = x - 1 - alpha
    tau = (middle + (middle.square() - 4 * alpha).clamp_min(0).sqrt()).clamp_min(0) / 2
    signal = x - tau + ((tau + 1) / x).log() + alpha * (tau / alpha + 1).log()
    return torch.where(x > bound, signal, x - x.log()).sum(1)
