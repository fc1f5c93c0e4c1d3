"""SGDMRT, AdamSRT, AdamS."""

import torch

import optimizers
from tests.optimizers.cases import ADAM_ERRORS, COMMON_ERRORS, EVERY_KIND, PARTITION_ERRORS, Config, OptimizerCase
from tests.optimizers.oracles import adam_srt, sgdmrt


def adam_configs() -> dict[str, Config]:
    return {
        "plain": Config({"lr": 0.01}),
        "channels": Config({"lr": 0.02, "betas": (0.8, 0.95), "channel_wise": True}),
        "kinds": Config({"lr": 0.02, "eps": 1e-6, "weight_decay": 0.05}, EVERY_KIND),
        "up": Config({"lr": 0.01, "maximize": True, "betas": [0.5, 0.9], "eps": 1e-3}, EVERY_KIND),
    }


CASES: tuple[OptimizerCase, ...] = (
    OptimizerCase(
        optimizers.SGDMRT,
        configs={
            "plain": Config({"lr": 0.1}),
            "momentum": Config({"lr": 0.1, "momentum": 0.9}, {"bias": {"momentum": 0}}),
            "channels": Config({"lr": 0.05, "momentum": 0.9, "channel_wise": True}),
            "kinds": Config({"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05}, EVERY_KIND),
            "up": Config({"lr": 0.02, "momentum": 0.8, "maximize": True}, EVERY_KIND),
        },
        oracle=sgdmrt.step,
        compiles=("kinds",),
        twin=(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        lr_power=2,
        scale_free={"lr": 0.1, "momentum": 0.9},
        tangent=("momentum_buffer", {"lr": 0.1, "momentum": 0.9}),
        errors=(
            *COMMON_ERRORS,
            *PARTITION_ERRORS,
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
        ),
    ),
    OptimizerCase(
        optimizers.AdamSRT,
        configs={**adam_configs(), "still": Config({"lr": 0.02, "rt": False}, {**EVERY_KIND, "conv": {"rt": True}})},
        oracle=adam_srt.step,
        compiles=("kinds",),
        twin=(torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}),
        lr_power=1,
        scale_free={"lr": 0.01, "eps": 0.0},
        tangent=("exp_avg", {"lr": 0.1, "eps": 0.0}),
        errors=(
            *COMMON_ERRORS,
            *PARTITION_ERRORS,
            *ADAM_ERRORS,
            ({"rt": "no"}, r"rt must be True or False, got rt='no'"),
        ),
    ),
    OptimizerCase(
        optimizers.AdamS,
        configs=adam_configs(),
        oracle=adam_srt.step_without_rt,
        compiles=("up",),
        twin=(torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}),
        lr_power=1,
        scale_free={"lr": 0.01, "eps": 0.0},
        errors=(*COMMON_ERRORS, *PARTITION_ERRORS, *ADAM_ERRORS),
    ),
)
