"""Optimizers around optimizers. Each is a ``torch.optim.Optimizer`` itself, shares its groups, and can be nested."""

from optimizers.wrappers.agc import AGC as AGC
from optimizers.wrappers.gradient_centralization import GradientCentralization as GradientCentralization
from optimizers.wrappers.gradient_normalization import GradientNormalization as GradientNormalization
from optimizers.wrappers.lookahead import Lookahead as Lookahead
from optimizers.wrappers.norm_loss import NormLoss as NormLoss
from optimizers.wrappers.pcgrad import PCGrad as PCGrad
from optimizers.wrappers.sam import ASAM as ASAM
from optimizers.wrappers.sam import SAM as SAM
from optimizers.wrappers.sam import frozen_running_stats as frozen_running_stats

__all__ = [
    "AGC",
    "ASAM",
    "SAM",
    "GradientCentralization",
    "GradientNormalization",
    "Lookahead",
    "NormLoss",
    "PCGrad",
    "frozen_running_stats",
]
