"""RAdam and other relatives of Adam and SGD that treat every entry alone."""

from collections.abc import Mapping
from typing import Any

import torch

import optimizers
from tests.optimizers.cases import ADAM_ERRORS, COMMON_ERRORS, Config, OptimizerCase
from tests.optimizers.oracles import adabelief, adabound, adamd, diffgrad, madgrad, pnm, radam, sgd_gc

NO_BLOCKS = "every entry is its own block"


def not_flags(*names: str) -> tuple[tuple[Mapping[str, Any], str], ...]:
    return tuple(({name: 1}, rf"{name} must be True or False, got {name}=1") for name in names)


RECTIFY_ERRORS = (
    *not_flags("degenerated_to_sgd"),
    ({"n_sma_threshold": 4}, r"n_sma_threshold must be a finite number > 4, got n_sma_threshold=4"),
)

CASES: tuple[OptimizerCase, ...] = (
    OptimizerCase(
        optimizers.RAdam,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05},
                {
                    "conv": {"betas": [0.5, 0.9], "weight_decouple": False},
                    "deconv": {"degenerated_to_sgd": False},
                    "linear": {"weight_decay": 0},
                    "heads": {"adam_debias": True},
                    "bias": {"n_sma_threshold": 6.5},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "weight_decouple": False}),
        },
        oracle=radam.step,
        compiles=("kinds",),
        twin=(torch.optim.RAdam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6}),
        errors=(*COMMON_ERRORS, *ADAM_ERRORS, *RECTIFY_ERRORS, *not_flags("weight_decouple", "adam_debias")),
        skip={"partition": NO_BLOCKS},
    ),
    OptimizerCase(
        optimizers.AdaBelief,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-8, "weight_decay": 0.05, "rectify": False},
                {
                    "conv": {"betas": [0.5, 0.9], "weight_decouple": False, "amsgrad": True},
                    "deconv": {"rectify": True, "degenerated_to_sgd": False},
                    "linear": {"fixed_decay": True},
                    "heads": {"adam_debias": True},
                    "taps": {"amsgrad": True, "rectify": True, "n_sma_threshold": 6.5},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "betas": (0.9, 0.95), "amsgrad": True}),
        },
        oracle=adabelief.step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *ADAM_ERRORS,
            *RECTIFY_ERRORS,
            *not_flags("weight_decouple", "fixed_decay", "rectify", "amsgrad", "adam_debias"),
        ),
        skip={"partition": NO_BLOCKS, "twin": "torch has no AdaBelief"},
    ),
    OptimizerCase(
        optimizers.AdaBound,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05, "final_lr": 0.03, "gamma": 0.3},
                {
                    "conv": {"betas": [0.5, 0.9], "weight_decouple": True, "amsgrad": True},
                    "deconv": {"base_lr": 0.02},
                    "linear": {"weight_decouple": True, "fixed_decay": True},
                    "heads": {"adam_debias": True},
                    "taps": {"amsgrad": True, "lr": 0.05},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "gamma": 0.9, "amsgrad": True}),
        },
        oracle=adabound.step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *ADAM_ERRORS,
            *not_flags("weight_decouple", "fixed_decay", "amsgrad", "adam_debias"),
            ({"final_lr": -1.0}, r"final_lr must be a finite number >= 0, got final_lr=-1.0"),
            ({"gamma": 0.0}, r"gamma must be a number with 0 < gamma < 1, got gamma=0.0"),
            ({"gamma": 1.0}, r"got gamma=1.0"),
            ({"base_lr": -0.1}, r"base_lr must be a finite number >= 0, or None, got base_lr=-0.1"),
        ),
        skip={"partition": NO_BLOCKS, "twin": "torch has no AdaBound"},
    ),
    OptimizerCase(
        optimizers.AdamD,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05},
                {
                    "conv": {"betas": [0.5, 0.9], "weight_decouple": True, "amsgrad": True},
                    "linear": {"weight_decouple": True},
                    "taps": {"amsgrad": True, "lr": 0.05},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "amsgrad": True}),
        },
        oracle=adamd.step,
        compiles=("kinds",),
        errors=(*COMMON_ERRORS, *ADAM_ERRORS, *not_flags("weight_decouple", "amsgrad")),
        skip={"partition": NO_BLOCKS, "twin": "torch corrects the first moment"},
    ),
    OptimizerCase(
        optimizers.DiffGrad,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05},
                {
                    "conv": {"betas": [0.5, 0.9], "weight_decouple": True},
                    "heads": {"adam_debias": True},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1}),
        },
        oracle=diffgrad.step,
        tol={"paths": (1e-6, "sigmoid rounds the last elements of a vector differently")},
        compiles=("kinds",),
        errors=(*COMMON_ERRORS, *ADAM_ERRORS, *not_flags("weight_decouple", "adam_debias")),
        skip={"partition": NO_BLOCKS, "twin": "torch has no diffGrad"},
    ),
    OptimizerCase(
        optimizers.PNM,
        configs={
            "plain": Config({"lr": 0.1}),
            "kinds": Config(
                {"lr": 0.1, "betas": (0.8, 0.5), "weight_decay": 0.05},
                {"conv": {"betas": [0.5, 2.0], "weight_decouple": False}, "heads": {"betas": (0.9, 0)}},
            ),
            "up": Config({"lr": 0.1, "maximize": True, "weight_decay": 0.1}),
        },
        oracle=pnm.step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *not_flags("weight_decouple"),
            ({"betas": (1.0, 1.0)}, r"betas must be 2 numbers: .*0 <= betas\[0\] < 1; .* got betas=\(1.0, 1.0\)"),
            ({"betas": (0.9, -0.5)}, r"betas\[1\] must be a finite number >= 0, got betas=\(0.9, -0.5\)"),
            ({"betas": (0.9,)}, r"got betas=\(0.9,\)"),
            ({"betas": 0.9}, r"got betas=0.9"),
        ),
        skip={"partition": NO_BLOCKS, "twin": "torch has no positive-negative momentum"},
    ),
    OptimizerCase(
        optimizers.AdaPNM,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95, 0.5), "eps": 1e-6, "weight_decay": 0.05},
                {
                    "conv": {"betas": [0.5, 0.9, 2.0], "weight_decouple": False, "amsgrad": False},
                    "linear": {"amsgrad": False},
                    "heads": {"adam_debias": True},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1}),
        },
        oracle=pnm.adaptive_step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *not_flags("weight_decouple", "amsgrad", "adam_debias"),
            ({"betas": (0.9, 1.0, 1.0)}, r"betas must be 3 numbers: .* < 1; .*, got betas=\(0.9, 1.0, 1.0\)"),
            ({"betas": (0.9, 0.999)}, r"got betas=\(0.9, 0.999\)"),
            ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
        ),
        skip={"partition": NO_BLOCKS, "twin": "torch has no positive-negative momentum"},
    ),
    OptimizerCase(
        optimizers.SGD_GC,
        configs={
            "plain": Config({"lr": 0.1}),
            "kinds": Config(
                {"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05},
                {
                    "conv": {"gc_conv_only": True},
                    "deconv": {"dampening": 0, "nesterov": True},
                    "linear": {"momentum": 0},
                    "heads": {"gc_conv_only": True, "lr": 0.1},
                    "taps": {"use_gc": False},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "momentum": 0.9, "nesterov": True, "maximize": True}),
        },
        oracle=sgd_gc.step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            ({"momentum": -0.5}, r"momentum must be a finite number >= 0, got momentum=-0.5"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
            *not_flags("nesterov", "use_gc", "gc_conv_only"),
            ({"nesterov": True}, r"nesterov=True needs momentum > 0 and dampening = 0, got momentum=0.0"),
            ({"nesterov": True, "momentum": 0.9, "dampening": 0.5}, r"nesterov=True needs .*dampening=0.5"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "torch does not centralize gradients",
            "a_quadratic_is_solved": "centralized gradients keep the mean of each row; see test_adaptive.py",
        },
    ),
    OptimizerCase(
        optimizers.MADGRAD,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.05},
                {
                    "conv": {"eps": 0.0, "weight_decouple": True},
                    "deconv": {"momentum": 0},
                    "linear": {"eps": 1e-3, "lr": 0.1},
                    "bias": {"weight_decay": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "weight_decouple": True}),
        },
        oracle=madgrad.step,
        tol={"paths": (1e-5, "pow rounds the last elements of a vector differently")},
        whole=madgrad.steps,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            ({"momentum": 1.0}, r"momentum must be a number with 0 <= momentum < 1, got momentum=1.0"),
            ({"eps": -1e-8}, r"eps must be a finite number >= 0, got eps=-1e-08"),
            ({"k": -1}, r"k must be an int >= 0, got k=-1"),
            ({"k": 1.0}, r"k must be an int >= 0, got k=1.0"),
            *not_flags("weight_decouple"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "torch has no MADGRAD",
            "scheduler_with_tensor_lr": "lr = 0 stops the sums, not the averaging; see test_adaptive.py",
            "group_added_and_parameter_thawed_later": "steps are counted for all groups together; see test_adaptive.py",
        },
    ),
)
