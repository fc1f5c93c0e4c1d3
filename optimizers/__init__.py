"""Optimizers that know which weights are scale-invariant, and the classics beside them.

Importing this package never imports the analyzer; the two meet in plain ``torch.optim`` param groups.
"""

from optimizers.adabelief import AdaBelief as AdaBelief
from optimizers.adabound import AdaBound as AdaBound
from optimizers.adahessian import AdaHessian as AdaHessian
from optimizers.adam_agc import Adam_AGC as Adam_AGC
from optimizers.adam_agc import AdamW_AGC as AdamW_AGC
from optimizers.adam_s import AdamS as AdamS
from optimizers.adam_srt import AdamSRT as AdamSRT
from optimizers.adam_swd import AdamSWD as AdamSWD
from optimizers.adamd import AdamD as AdamD
from optimizers.adamg import AdamG as AdamG
from optimizers.adamp import AdamP as AdamP
from optimizers.adapnm import AdaPNM as AdaPNM
from optimizers.diffgrad import DiffGrad as DiffGrad
from optimizers.lamb import Lamb as Lamb
from optimizers.madgrad import MADGRAD as MADGRAD
from optimizers.nero import Nero as Nero
from optimizers.pnm import PNM as PNM
from optimizers.radam import RAdam as RAdam
from optimizers.ranger import Ranger as Ranger
from optimizers.ranger21 import Ranger21 as Ranger21
from optimizers.registry import get_supported_optimizers as get_supported_optimizers
from optimizers.registry import list_optimizers as list_optimizers
from optimizers.registry import list_wrappers as list_wrappers
from optimizers.registry import load_optimizer as load_optimizer
from optimizers.registry import load_wrapper as load_wrapper
from optimizers.rmsgd import RMSGD as RMSGD
from optimizers.rmsprop_agc import RMSprop_AGC as RMSprop_AGC
from optimizers.schedules import ChebyshevLR as ChebyshevLR
from optimizers.schedules import KneeLR as KneeLR
from optimizers.schedules import Ranger21LR as Ranger21LR
from optimizers.schedules import UntunedLinearWarmup as UntunedLinearWarmup
from optimizers.sgd_agc import SGD_AGC as SGD_AGC
from optimizers.sgd_gc import SGD_GC as SGD_GC
from optimizers.sgd_swd import SGDSWD as SGDSWD
from optimizers.sgdg import SGDG as SGDG
from optimizers.sgdmrt import SGDMRT as SGDMRT
from optimizers.sgdp import SGDP as SGDP
from optimizers.shampoo import Shampoo as Shampoo
from optimizers.wrappers import AGC as AGC
from optimizers.wrappers import ASAM as ASAM
from optimizers.wrappers import SAM as SAM
from optimizers.wrappers import GradientCentralization as GradientCentralization
from optimizers.wrappers import GradientNormalization as GradientNormalization
from optimizers.wrappers import Lookahead as Lookahead
from optimizers.wrappers import NormLoss as NormLoss
from optimizers.wrappers import PCGrad as PCGrad
from optimizers.wrappers import frozen_running_stats as frozen_running_stats

__all__ = [
    "AGC",
    "ASAM",
    "MADGRAD",
    "PNM",
    "RMSGD",
    "SAM",
    "SGDG",
    "SGDMRT",
    "SGDP",
    "SGDSWD",
    "SGD_AGC",
    "SGD_GC",
    "AdaBelief",
    "AdaBound",
    "AdaHessian",
    "AdaPNM",
    "AdamD",
    "AdamG",
    "AdamP",
    "AdamS",
    "AdamSRT",
    "AdamSWD",
    "AdamW_AGC",
    "Adam_AGC",
    "ChebyshevLR",
    "DiffGrad",
    "GradientCentralization",
    "GradientNormalization",
    "KneeLR",
    "Lamb",
    "Lookahead",
    "Nero",
    "NormLoss",
    "PCGrad",
    "RAdam",
    "RMSprop_AGC",
    "Ranger",
    "Ranger21",
    "Ranger21LR",
    "Shampoo",
    "UntunedLinearWarmup",
    "frozen_running_stats",
    "get_supported_optimizers",
    "list_optimizers",
    "list_wrappers",
    "load_optimizer",
    "load_wrapper",
]
