"""SGDSWD and AdamSWD, Ranger and Ranger21, AdaHessian, Shampoo."""

from collections.abc import Mapping
from typing import Any

import torch

import optimizers
from tests.optimizers.cases import ADAM_ERRORS, COMMON_ERRORS, Config, OptimizerCase
from tests.optimizers.oracles import adahessian, adam_swd, ranger, ranger21, sgd_swd, shampoo

NO_BLOCKS = "every entry is its own block"
COUPLED = "the decay of each parameter depends on all others"


def not_flags(*names: str) -> tuple[tuple[Mapping[str, Any], str], ...]:
    return tuple(({name: 1}, rf"{name} must be True or False, got {name}=1") for name in names)


CASES: tuple[OptimizerCase, ...] = (
    OptimizerCase(
        optimizers.SGDSWD,
        configs={
            "plain": Config({"lr": 0.1, "weight_decay": 0.01}),
            "kinds": Config(
                {"lr": 0.02, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05},
                {
                    "conv": {"weight_decay": 0},
                    "deconv": {"dampening": 0, "nesterov": True},
                    "linear": {"momentum": 0},
                    "heads": {"lr": 0.1},
                },
            ),
            "up": Config({"lr": 0.02, "momentum": 0.9, "nesterov": True, "maximize": True}),
        },
        oracle=sgd_swd.step,
        compiles=("kinds",),
        twin=(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        errors=(
            *COMMON_ERRORS,
            ({"momentum": 1}, r"momentum must be a number with 0 <= momentum < 1, got momentum=1"),
            ({"dampening": 1.5}, r"dampening must be a number with 0 <= dampening <= 1, got dampening=1.5"),
            *not_flags("nesterov"),
            ({"nesterov": True}, r"nesterov=True needs momentum > 0 and dampening = 0, got momentum=0.0"),
            ({"nesterov": True, "momentum": 0.9, "dampening": 0.5}, r"nesterov=True needs .*dampening=0.5"),
        ),
        skip={"partition": NO_BLOCKS},
    ),
    OptimizerCase(
        optimizers.AdamSWD,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05},
                {
                    "conv": {"betas": [0.5, 0.9], "amsgrad": True},
                    "linear": {"weight_decay": 0},
                    "heads": {"lr": 0.1, "weight_decay": 0.5},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "amsgrad": True}),
        },
        oracle=adam_swd.step,
        whole=adam_swd.whole,
        compiles=("kinds",),
        twin=(torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0, "amsgrad": True}),
        errors=(*COMMON_ERRORS, *ADAM_ERRORS, *not_flags("amsgrad")),
        skip={"partition": NO_BLOCKS, "group_added_and_parameter_thawed_later": COUPLED},
    ),
    OptimizerCase(
        optimizers.Ranger,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.05, "k": 2},
                {
                    "conv": {"betas": [0.5, 0.9], "gc_conv_only": True},
                    "deconv": {"use_gc": False, "alpha": 0.8},
                    "linear": {"weight_decay": 0, "k": 3},
                    "heads": {"gc_conv_only": True},
                    "bias": {"n_sma_threshold": 6.5, "k": 1},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "weight_decay": 0.1, "alpha": 1, "k": 2}),
        },
        oracle=ranger.step,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *ADAM_ERRORS,
            *not_flags("use_gc", "gc_conv_only"),
            ({"alpha": 0.0}, r"alpha must be a number with 0 < alpha <= 1, got alpha=0.0"),
            ({"k": 0}, r"k must be an int >= 1, got k=0"),
            ({"k": 2.5}, r"k must be an int >= 1, got k=2.5"),
            ({"n_sma_threshold": 4}, r"n_sma_threshold must be a finite number > 4, got n_sma_threshold=4"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "RAdam has no slow weights",
            "a_quadratic_is_solved": "centralized gradients keep the mean of each row; see test_ranger.py",
        },
    ),
    OptimizerCase(
        optimizers.Ranger21,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {
                    "num_iterations": 16,
                    "lr": 0.02,
                    "betas": (0.8, 0.9),
                    "weight_decay": 0.05,
                    "lookahead_merge_time": 2,
                },
                {
                    "conv": {"agc_clipping_value": 2.0, "norm_loss_factor": 0.05},
                    "deconv": {"agc_clipping_value": None, "use_softplus": False, "norm_loss_factor": 0},
                    "linear": {"normalize_gradients": False, "num_warm_up_iterations": 0, "agc_eps": 5.0},
                    "heads": {"centralize_gradients": False, "num_warm_down_iterations": 10, "weight_decay": 0},
                    "bias": {"beta0": 1.0, "beta_softplus": 5, "lookahead_blending_alpha": 0.8},
                    "one": {"disable_lr_scheduler": True, "agc_clipping_value": 0},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "agc_clipping_value": 0.1, "beta0": 0.0}),
        },
        oracle=ranger21.step,
        whole=ranger21.whole,
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *ADAM_ERRORS,
            *not_flags("use_softplus", "centralize_gradients", "normalize_gradients", "disable_lr_scheduler"),
            ({"num_iterations": 0}, r"num_iterations must be an int >= 1, or None, got num_iterations=0"),
            ({"num_warm_up_iterations": -1}, r"num_warm_up_iterations must be an int >= 0, or None, got .*=-1"),
            ({"num_warm_down_iterations": 0.5}, r"num_warm_down_iterations must be an int >= 0, or None, got .*=0.5"),
            ({"warm_down_min_lr": -1.0}, r"warm_down_min_lr must be a finite number >= 0, got warm_down_min_lr=-1.0"),
            ({"num_iterations": 9, "warm_down_min_lr": 0.5}, r"warm_down_min_lr must be at most lr=0.001, got 0.5"),
            ({"beta0": 1.5}, r"beta0 must be a number with 0 <= beta0 <= 1, got beta0=1.5"),
            ({"beta_softplus": 0.0}, r"beta_softplus must be a finite number > 0, got beta_softplus=0.0"),
            ({"agc_clipping_value": -0.1}, r"agc_clipping_value must be a finite number >= 0, or None, got .*=-0.1"),
            ({"agc_eps": -1e-3}, r"agc_eps must be a finite number >= 0, got agc_eps=-0.001"),
            ({"lookahead_merge_time": 0}, r"lookahead_merge_time must be an int >= 1, got lookahead_merge_time=0"),
            ({"lookahead_blending_alpha": 2}, r"lookahead_blending_alpha must be a number with 0 < .* <= 1, got .*=2"),
            ({"norm_loss_factor": -1.0}, r"norm_loss_factor must be a finite number >= 0, got norm_loss_factor=-1.0"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "torch has nothing that it equals",
            "a_quadratic_is_solved": "centralized gradients keep the mean of each row; see test_ranger.py",
            "group_added_and_parameter_thawed_later": COUPLED,
        },
    ),
    OptimizerCase(
        optimizers.AdaHessian,
        configs={
            "plain": Config({"lr": 0.02}),
            "kinds": Config(
                {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05},
                {
                    "conv": {"hessian_power": 0.5},
                    "deconv": {"spatial_average": False, "n_samples": 3},
                    "linear": {"update_period": 2},
                    "heads": {"update_period": 3, "lr": 0.05},
                },
            ),
            "up": Config({"lr": 0.02, "maximize": True, "n_samples": 2}),
        },
        oracle=adahessian.step,
        curvature=adahessian.curvature,
        tol={"bfloat16_is_float32_rounded": (2**-6, "autograd differentiates a bfloat16 gradient in bfloat16")},
        compiles=("kinds",),
        errors=(
            *COMMON_ERRORS,
            *ADAM_ERRORS,
            *not_flags("spatial_average"),
            (
                {"hessian_power": 0.0},
                r"hessian_power must be a number with 0 < hessian_power <= 1, got hessian_power=0.0",
            ),
            ({"update_period": 0}, r"update_period must be an int >= 1, got update_period=0"),
            ({"n_samples": 1.5}, r"n_samples must be an int >= 1, got n_samples=1.5"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "torch has nothing that it equals",
        },
    ),
    OptimizerCase(
        optimizers.Shampoo,
        configs={
            "plain": Config({"lr": 0.5, "matrix_eps": 0.1}),
            "kinds": Config(
                {"lr": 0.5, "momentum": 0.8, "weight_decay": 0.05, "matrix_eps": 0.3},
                {
                    "conv": {"preconditioning_compute_steps": 3},
                    "deconv": {"max_preconditioner_dim": 4},
                    "linear": {"weight_decouple": True, "preconditioning_compute_steps": 2},
                    "heads": {"momentum": 0},
                    "bias": {"max_preconditioner_dim": 2},
                },
            ),
            "up": Config({"lr": 0.5, "maximize": True, "momentum": 0.5, "matrix_eps": 1.0}),
        },
        oracle=shampoo.step,
        compiles=(),
        errors=(
            *(error for error in COMMON_ERRORS if "impl" not in error[0]),
            ({"impl": "foreach"}, r"impl must be one of \('auto', 'loop'\), got impl='foreach'"),
            ({"momentum": 1.0}, r"momentum must be a number with 0 <= momentum < 1, got momentum=1.0"),
            *not_flags("weight_decouple"),
            ({"matrix_eps": 0.0}, r"matrix_eps must be a finite number > 0, got matrix_eps=0.0"),
            ({"preconditioning_compute_steps": 0}, r"preconditioning_compute_steps must be an int >= 1, got .*=0"),
            ({"max_preconditioner_dim": 0}, r"max_preconditioner_dim must be an int >= 1, or None, got .*=0"),
        ),
        skip={
            "partition": NO_BLOCKS,
            "twin": "torch has nothing that it equals",
            "block_slots_hold_one_number_per_block": "its slots hold matrices",
            **dict.fromkeys(
                (
                    "foreach_is_loop_bit_for_bit",
                    "chunks_change_nothing",
                    "without_a_compiler_one_warning_and_the_same_result",
                ),
                "has the loop only",
            ),
        },
    ),
)
