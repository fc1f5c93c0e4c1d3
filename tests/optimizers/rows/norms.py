"""Optimizers that compare norms: projections, trust ratios, clipping by norm, fixed norms."""

import torch

import optimizers
from tests.optimizers.cases import ADAM_ERRORS, COMMON_ERRORS, EVERY_KIND, PARTITION_ERRORS, Config, OptimizerCase
from tests.optimizers.oracles import agc, grassmann, lamb, nero, projection, rmsgd

GUESS = "without a stated partition it guesses one, which no torch optimizer does"
WIDE = {name: {"delta": 2.0} for name in ("conv", "heads")}  # so that the guess is yes as often as no
PROJECTION_ERRORS = (
    ({"delta": -0.1}, r"delta must be a number >= 0, got delta=-0.1"),
    ({"delta": float("nan")}, r"got delta=nan"),
    ({"wd_ratio": 1.5}, r"wd_ratio must be a number with 0 <= wd_ratio <= 1, got wd_ratio=1.5"),
    ({"nesterov": 1}, r"nesterov must be True or False, got nesterov=1"),
)
# Where norms are compared, a tensor without a partition is one block, or has one block per row.
UNITS = {name: keys for name, keys in EVERY_KIND.items() if name != "bias"}
ONE_BLOCK = "without a partition the tensor is one block; tests/optimizers/test_units.py has the partitions"
ONE_PER_ROW = "without a partition the units are the rows; tests/optimizers/test_units.py has the partitions"
UNIT_ERRORS = tuple((kwargs, text) for kwargs, text in PARTITION_ERRORS if "channel_wise" not in kwargs)
CLIPS = "torch does not clip; tests/optimizers/test_units.py compares them without clipping"
MIXED = {  # units of every kind, clipped hard, softly and not at all
    name: {**keys, "clipping": clipping}
    for (name, keys), clipping in zip(UNITS.items(), (0.1, 0.3, 5.0, 0.01, 0.5, None, 0.2), strict=True)
}
ONE_PER_NEURON = "without a partition the blocks are neurons; tests/optimizers/test_units.py has the partitions"
FREED = {**UNITS, "heads": {**UNITS["heads"], "constraints": False}}
ON_SPHERES = {"a_quadratic_is_solved": "weights of norm 1 cannot reach its minimum"}
CLIP_ERROR = ({"grad_clip": 0.0}, r"grad_clip must be a finite number > 0, or None, got grad_clip=0.0")
AGC_ERRORS = (
    *COMMON_ERRORS,
    *UNIT_ERRORS,
    ({"clipping": -0.1}, r"clipping must be a finite number >= 0, or None, got clipping=-0.1"),
    ({"agc_eps": -0.1}, r"agc_eps must be a finite number >= 0, got agc_eps=-0.1"),
)


def adam_agc_configs() -> dict[str, Config]:
    return {
        "plain": Config({"lr": 0.01, "clipping": 0.3}),
        "kinds": Config({"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05, "agc_eps": 0.1}, MIXED),
        "up": Config({"lr": 0.02, "maximize": True, "amsgrad": True, "clipping": 0.5, "betas": (0.5, 0.6)}),
    }


CASES: tuple[OptimizerCase, ...] = (
    OptimizerCase(
        optimizers.AdamP,
        configs={
            "guess": Config({"lr": 0.01, "weight_decay": 0.1, "delta": 0.7}, WIDE),
            "ahead": Config({"lr": 0.01, "weight_decay": 0.1, "nesterov": True, "wd_ratio": 0.3}, WIDE),
            "channels": Config({"lr": 0.02, "betas": (0.8, 0.95), "channel_wise": True}),
            "kinds": Config({"lr": 0.02, "eps": 1e-6, "weight_decay": 0.05}, EVERY_KIND),
            "up": Config({"lr": 0.01, "maximize": True, "delta": float("inf"), "nesterov": True}),
        },
        oracle=projection.adamp,
        compiles=("guess", "kinds"),
        lr_power=1,
        scale_free={"lr": 0.01, "eps": 0.0},
        errors=(*COMMON_ERRORS, *PARTITION_ERRORS, *ADAM_ERRORS, *PROJECTION_ERRORS),
        skip={"twin": GUESS},
    ),
    OptimizerCase(
        optimizers.SGDP,
        configs={
            "guess": Config({"lr": 0.05, "weight_decay": 0.1, "delta": 0.7}, WIDE),
            "ahead": Config({"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, WIDE),
            "channels": Config({"lr": 0.05, "momentum": 0.9, "channel_wise": True}),
            "kinds": Config({"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05}, EVERY_KIND),
            "up": Config(
                {"lr": 0.02, "momentum": 0.8, "maximize": True, "delta": float("inf")}, {"bias": {"momentum": 0}}
            ),
        },
        oracle=projection.sgdp,
        compiles=("guess", "kinds"),
        lr_power=2,
        scale_free={"lr": 0.1, "momentum": 0.9, "eps": 0.0},
        errors=(
            *COMMON_ERRORS,
            *PARTITION_ERRORS,
            *PROJECTION_ERRORS,
            ({"momentum": 1.0}, r"momentum must be a number with 0 <= momentum < 1, got momentum=1.0"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
            ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
        ),
        skip={"twin": GUESS},
    ),
    OptimizerCase(
        optimizers.Lamb,
        configs={
            "plain": Config({"lr": 0.01}),
            "decay": Config({"lr": 0.01, "weight_decay": 0.1, "always_adapt": False}, {"bias": {"weight_decay": 0.0}}),
            "clip": Config({"lr": 0.02, "max_grad_norm": 1.0, "trust_clip": True}, {"conv": {"max_grad_norm": 3.0}}),
            "raw": Config({"lr": 0.02, "bias_correction": False, "clamp_value": 5.0, "grad_averaging": False}),
            "kinds": Config({"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.05, "max_grad_norm": 2.0}, UNITS),
            "up": Config({"lr": 0.01, "maximize": True}, {"conv": {"max_grad_norm": 1.0}}),
        },
        oracle=lamb.step,
        whole=lamb.whole,
        compiles=("clip", "kinds"),
        lr_power=0,
        scale_free={"lr": 0.01, "eps": 0.0},
        errors=(
            *COMMON_ERRORS,
            *UNIT_ERRORS,
            *ADAM_ERRORS,
            ({"max_grad_norm": 0.0}, r"max_grad_norm must be a finite number > 0, or None, got max_grad_norm=0.0"),
            ({"clamp_value": -1}, r"clamp_value must be a finite number > 0, or None, got clamp_value=-1"),
            ({"bias_correction": 1}, r"bias_correction must be True or False, got bias_correction=1"),
            ({"grad_averaging": 1}, r"grad_averaging must be True or False, got grad_averaging=1"),
            ({"trust_clip": 1}, r"trust_clip must be True or False, got trust_clip=1"),
            ({"always_adapt": 1}, r"always_adapt must be True or False, got always_adapt=1"),
        ),
        skip={
            "twin": "no torch optimizer has a trust ratio",
            "partition": ONE_BLOCK,
            "group_added_and_parameter_thawed_later": "clipping by the norm of all gradients couples the parameters",
        },
    ),
    OptimizerCase(
        optimizers.SGD_AGC,
        configs={
            "plain": Config({"lr": 0.1, "clipping": 0.3}),
            "kinds": Config({"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05}, MIXED),
            "up": Config({"lr": 0.05, "momentum": 0.9, "nesterov": True, "maximize": True, "clipping": 0.5}),
        },
        oracle=agc.sgd,
        compiles=("kinds",),
        errors=(
            *AGC_ERRORS,
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
            ({"nesterov": True}, r"nesterov=True needs momentum > 0 and dampening = 0, got momentum=0.0"),
        ),
        skip={"twin": CLIPS, "partition": ONE_PER_ROW},
    ),
    OptimizerCase(
        optimizers.Adam_AGC,
        configs=adam_agc_configs(),
        oracle=agc.adam,
        compiles=("kinds",),
        errors=(*AGC_ERRORS, *ADAM_ERRORS, ({"amsgrad": 1}, r"amsgrad must be True or False, got amsgrad=1")),
        skip={"twin": CLIPS, "partition": ONE_PER_ROW},
    ),
    OptimizerCase(
        optimizers.AdamW_AGC,
        configs=adam_agc_configs(),
        oracle=agc.adamw,
        compiles=("kinds",),
        errors=(*AGC_ERRORS, *ADAM_ERRORS, ({"amsgrad": 1}, r"amsgrad must be True or False, got amsgrad=1")),
        skip={"twin": CLIPS, "partition": ONE_PER_ROW},
    ),
    OptimizerCase(
        optimizers.RMSprop_AGC,
        configs={
            "plain": Config({"lr": 0.02, "clipping": 0.3}),
            "kinds": Config(
                {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.05, "centered": True, "eps": 1e-6}, MIXED
            ),
            "up": Config({"lr": 0.02, "maximize": True, "alpha": 0.8, "centered": True}),
        },
        oracle=agc.rmsprop,
        compiles=("kinds",),
        errors=(
            *AGC_ERRORS,
            ({"alpha": 1.0}, r"alpha must be a number with 0 <= alpha < 1, got alpha=1.0"),
            ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
            ({"centered": 1}, r"centered must be True or False, got centered=1"),
        ),
        skip={"twin": CLIPS, "partition": ONE_PER_ROW},
    ),
    OptimizerCase(
        optimizers.AdamG,
        configs={
            "plain": Config({"lr": 0.01, "weight_decay": 0.1}),
            "channels": Config({"lr": 0.05, "betas": (0.8, 0.95), "grad_clip": 0.1, "channel_wise": True}),
            "kinds": Config({"lr": 0.05, "eps": 1e-6, "weight_decay": 0.05}, EVERY_KIND),
            "projection": Config({"lr": 0.02, "retraction": "projection", "eps": 1e-6}, EVERY_KIND),
            "up": Config({"lr": 0.05, "maximize": True, "grad_clip": 0.5}, EVERY_KIND),
        },
        oracle=grassmann.adamg,
        compiles=("kinds",),
        twin=(torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}),
        errors=(
            *COMMON_ERRORS,
            *PARTITION_ERRORS,
            *ADAM_ERRORS,
            CLIP_ERROR,
            ({"retraction": "qr"}, r"retraction must be one of \('exp', 'projection'\), got retraction='qr'"),
        ),
        skip=ON_SPHERES,
    ),
    OptimizerCase(
        optimizers.SGDG,
        configs={
            "plain": Config({"lr": 0.05, "weight_decay": 0.1}),
            "channels": Config({"lr": 0.2, "momentum": 0.5, "channel_wise": True}, {"bias": {"momentum": 0}}),
            "kinds": Config({"lr": 0.1, "grad_clip": None, "weight_decay": 0.05}, EVERY_KIND),
            "still": Config({"lr": 0.1, "grad_clip": 0.5, "momentum": 0.0}, EVERY_KIND),
            "up": Config({"lr": 0.1, "grad_clip": 0.5, "maximize": True}, EVERY_KIND),
        },
        oracle=grassmann.sgdg,
        compiles=("kinds",),
        twin=(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
        errors=(
            *COMMON_ERRORS,
            *PARTITION_ERRORS,
            CLIP_ERROR,
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
        ),
        skip=ON_SPHERES,
    ),
    OptimizerCase(
        optimizers.Nero,
        configs={
            "plain": Config({"lr": 0.05}),
            "kinds": Config({"lr": 0.02, "beta": 0.8, "eps": 1e-6}, FREED),
            "paper": Config({"lr": 0.02, "beta": 0.8, "eps": 1e-6}, {"conv": {"constraints": False}}),
            "free": Config({"lr": 0.01, "constraints": False, "beta": 0.0}, UNITS),
            "up": Config({"lr": 0.02, "maximize": True}),
        },
        oracle=nero.step,
        construct=nero.constrained,
        compiles=("kinds",),
        errors=(
            *(error for error in COMMON_ERRORS if "weight_decay" not in error[0]),
            *UNIT_ERRORS,
            ({"beta": 1.0}, r"beta must be a number with 0 <= beta < 1, got beta=1.0"),
            ({"constraints": 1}, r"constraints must be True or False, got constraints=1"),
            ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
        ),
        skip={"twin": "torch has no Nero", "partition": ONE_PER_NEURON, **ON_SPHERES},
    ),
    OptimizerCase(
        optimizers.RMSGD,
        configs={
            "plain": Config({"lr": 0.05}),
            "kinds": Config(
                {"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05},
                {"deconv": {"dampening": 0, "nesterov": True}, "linear": {"momentum": 0}, "heads": {"lr": 0.1}},
            ),
            "up": Config({"lr": 0.02, "momentum": 0.9, "nesterov": True, "maximize": True}),
        },
        oracle=rmsgd.step,
        compiles=("kinds",),
        twin=(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
        errors=(
            *COMMON_ERRORS,
            ({"beta": 1.0}, r"beta must be a number with 0 <= beta < 1, got beta=1.0"),
            ({"step_size": 0}, r"step_size must be an int >= 1, or None, got step_size=0"),
            ({"gamma": -1}, r"gamma must be a finite number >= 0, got gamma=-1"),
            ({"linear": 1}, r"linear must be True or False, got linear=1"),
            ({"min_lr": -1}, r"min_lr must be a finite number >= 0, got min_lr=-1"),
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
            ({"nesterov": True}, r"nesterov=True needs momentum > 0 and dampening = 0, got momentum=0.0"),
        ),
        skip={"partition": "a layer is one block"},
    ),
)
