"""Published experiments as settings. Every row says where its numbers come from; what a source leaves open is not set.

Names are ``SOURCE/DATASET-MODEL-OPTIMIZER``, or ``pytorch_optimizer/OPTIMIZER`` for the defaults of a package that
publishes no image experiments. Flags on the command line win over a preset, and milestones move with ``--epochs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from training.settings import UsageError


@dataclass(frozen=True)
class Preset:
    """One published run.

    Attributes:
        source: paper or package, and the file that states the numbers.
        settings: fields of ``Settings``; ``options`` has the learning rate.
        note: how this run differs from the published one.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""

    def scaled(self, epochs: int | None) -> dict[str, Any]:
        """Return the settings for a run of so many epochs: the milestones keep their place in it."""
        found = dict(self.settings)
        published = found.get("epochs")
        if epochs and published and "milestones" in found:
            found["milestones"] = tuple(max(1, round(m * epochs / published)) for m in found["milestones"])
        return found


# --- adamsrt: github.com/ymontmarin/adamsrt, best_hyper_parameters.py and training.py (arXiv 2006.13382, appendix) ---
# Batches of 128 (ImageNet: 256), 405 epochs, the rate times 0.1 after 135, 225 and 315. Columns: optimizer; β₂ for Adam
# and its relatives, whose lr is 1e-3 (AdamG: 1e-2), nothing for SGD, with lr 0.1 and momentum 0.9; weight decay.

_ADAMSRT = """
cifar10 resnet18:   adams .99 1.5625e-5, adamsrt .99 7.8125e-6, adamw .99 6.25e-5, adam .999 7.8125e-6, adamg .99 5e-4,
                    sgd 2.5e-4, sgdmrt 2.5e-4
cifar10 resnet20:   adams .99 5e-4, adamsrt .99 7.8125e-6, adamw .99 -, adam .99 5e-4, adamg .99 5e-4,
                    sgd 2.5e-4, sgdmrt 3.125e-5
cifar10 vgg16:      adams .999 3.125e-5, adamsrt .999 1.5625e-5, adamw .999 2.5e-4, adam .999 3.125e-5,
                    adamg .999 5e-4, sgd 2.5e-4, sgdmrt 6.25e-5
cifar100 resnet18:  adams .99 1.25e-4, adamsrt .999 0, adamw .99 1.25e-4, adam .999 1.25e-4, adamg .99 5e-4,
                    sgd 5e-4, sgdmrt 5e-4
cifar100 vgg16:     adams .99 6.25e-5, adamsrt .99 7.8125e-6, adamw .99 1.5625e-5, adam .99 6.25e-5, adamg .99 5e-4,
                    sgd 5e-4, sgdmrt 1.25e-4
svhn resnet18:      adams .99 3.125e-5, adamsrt .999 7.8125e-6, adamw .999 7.8125e-6, adam .999 0, adamg .99 5e-4,
                    sgd 5e-4, sgdmrt 5e-4
svhn vgg16:         adams .99 7.8125e-6, adamsrt .999 2.5e-4, adamw .99 3.125e-5, adam .99 0, adamg .99 5e-4,
                    sgd 5e-4, sgdmrt 3.125e-5
imagenet resnet18:  adams .99 1.5625e-5, adamsrt .999 7.8125e-6, adam .99 7.8125e-6, sgd 6.25e-5, sgdmrt 6.25e-5
"""
_ADAMG = "the AdamG of the package projects the layers it should not; here it is that of arXiv 1709.09603"


def _adamsrt() -> dict[str, Preset]:
    found: dict[str, Preset] = {}
    for line in _ADAMSRT.replace(",\n", ",").strip().splitlines():
        task, rows = line.split(":")
        dataset, model = task.split()
        for row in rows.split(","):
            optimizer, *numbers = row.split()
            options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9}
            if len(numbers) == 2:
                options = {"lr": 1e-2 if optimizer == "adamg" else 1e-3, "betas": (0.9, float(numbers[0]))}
            if numbers[-1] != "-":  # not set there: the default of torch.optim.AdamW
                options["weight_decay"] = float(numbers[-1])
            settings = {
                **{"dataset": dataset, "model": model, "optimizer": optimizer, "options": options},
                **{"epochs": 405, "batch_size": 256 if dataset == "imagenet" else 128},
                **{"schedule": "step", "milestones": (135, 225, 315), "gamma": 0.1},
            }
            source = "adamsrt, best_hyper_parameters.py and training.py; arXiv 2006.13382"
            name = f"adamsrt/{dataset}-{model}-{optimizer}"
            found[name] = Preset(source, settings, _ADAMG if optimizer == "adamg" else "no validation part of 5 %")
    return found


# --- RMSGD: github.com/mahdihosseini/RMSGD, configs/*.yaml (arXiv 2203.16723) ----------------------------------------


def _rmsgd() -> dict[str, Preset]:
    halving = {"schedule": "step", "milestones": tuple(range(25, 250, 25)), "gamma": 0.5}
    own = {"momentum": 0.9, "beta": 0.98, "gamma": 0.98, "step_size": 1}
    rows: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "rmsgd": ({"lr": 0.03, **own}, {"schedule": "constant"}),
        "sgd": ({"lr": 0.1, "momentum": 0.9}, halving),
        "adam": ({"lr": 3e-4}, halving),
        "adamp": ({"lr": 0.01}, halving),
        "adabound": ({"lr": 0.01}, halving),
    }
    task = {"dataset": "cifar10", "model": "resnet34", "epochs": 250, "batch_size": 128}
    return {
        f"rmsgd/cifar10-resnet34-{name}": Preset(
            f"RMSGD, configs/{name}.yaml; arXiv 2203.16723",
            {**task, "optimizer": name, "options": {**options, "weight_decay": 1e-4}, **schedule},
        )
        for name, (options, schedule) in rows.items()
    }


# --- agc_optims: github.com/Skyy93/agc_optims, performance_tests/performance_test.py (arXiv 2102.06171) --------------


def _agc_optims() -> dict[str, Preset]:
    rates = {"adam": 1e-3, "sgd": 1e-2, "rmsprop": 1e-3}
    task = {"dataset": "cifar10", "model": "resnet20", "epochs": 10, "batch_size": 128, "schedule": "constant"}
    found: dict[str, Preset] = {}
    for base, lr in rates.items():
        for optimizer, options in ((base, {"lr": lr}), (f"{base}_agc", {"lr": lr, "clipping": 0.16})):
            found[f"agc_optims/cifar10-resnet20-{optimizer}"] = Preset(
                "agc_optims, performance_tests/performance_test.py; arXiv 2102.06171",
                {**task, "optimizer": optimizer, "options": options},
                "published with a CNN of two convolutions and without augmentation; the head is not clipped here",
            )
    return found


# --- diffGrad: arXiv 1909.11015, section on image categorization -----------------------------------------------------


def _diffgrad() -> dict[str, Preset]:
    return {
        f"diffgrad/{dataset}-resnet18-diffgrad": Preset(
            "diffGrad, arXiv 1909.11015, run in the framework pytorch-cifar",
            {
                **{"dataset": dataset, "model": "resnet18", "optimizer": "diffgrad", "options": {"lr": 1e-3}},
                **{"epochs": 100, "batch_size": 128, "schedule": "step", "milestones": (80,), "gamma": 0.1},
            },
            "published with ResNet-50",
        )
        for dataset in ("cifar10", "cifar100")
    }


# --- AdaHessian: github.com/amirgholami/adahessian, image_classification/README.md (arXiv 2006.00719) ----------------


def _adahessian() -> dict[str, Preset]:
    task = {"dataset": "cifar10", "model": "resnet20", "epochs": 160, "batch_size": 256}
    steps = {"schedule": "step", "milestones": (80, 120), "gamma": 0.1}
    rates = {"adahessian": 0.15, "sgd": 0.1, "adam": 1e-3, "adamw": 1e-2}
    return {
        f"adahessian/cifar10-resnet20-{name}": Preset(
            "AdaHessian, image_classification/README.md; arXiv 2006.00719",
            {**task, **steps, "optimizer": name, "options": {"lr": lr, "weight_decay": 5e-4}},
        )
        for name, lr in rates.items()
    }


# --- pytorch_optimizer 4.1.0: the defaults of its classes, where they are not those of this project ------------------

_DEFAULTS: dict[str, dict[str, Any]] = {
    "adabelief": {"lr": 1e-3, "eps": 1e-16, "weight_decouple": True, "rectify": False},
    "adabound": {"lr": 1e-3, "final_lr": 0.1, "gamma": 1e-3, "weight_decouple": True},
    "adahessian": {"lr": 0.1, "eps": 1e-16},
    "adamp": {"lr": 1e-3, "delta": 0.1, "wd_ratio": 0.1},
    "adapnm": {"lr": 1e-3, "betas": (0.9, 0.999, 1.0)},
    "diffgrad": {"lr": 1e-3, "weight_decouple": True},
    "lamb": {"lr": 1e-3, "max_grad_norm": 1.0},
    "madgrad": {"lr": 1e-3, "momentum": 0.9, "eps": 1e-6},
    "nero": {"lr": 0.01, "beta": 0.999, "eps": 1e-8},
    "pnm": {"lr": 1e-3, "betas": (0.9, 1.0)},
    "radam": {"lr": 1e-3, "degenerated_to_sgd": False},
    "ranger": {"lr": 1e-3, "betas": (0.95, 0.999), "k": 6, "alpha": 0.5},
    "ranger21": {"lr": 1e-3, "weight_decay": 1e-4, "beta0": 0.9},
    "sgdp": {"lr": 1e-3, "delta": 0.1, "wd_ratio": 0.1},
    "shampoo": {"lr": 1e-3, "matrix_eps": 1e-6},
}


def _pytorch_optimizer() -> dict[str, Preset]:
    return {
        f"pytorch_optimizer/{name}": Preset(
            "pytorch_optimizer 4.1.0, defaults of the class", {"optimizer": name, "options": options}
        )
        for name, options in _DEFAULTS.items()
    }


PRESETS: dict[str, Preset] = {
    **_adamsrt(),
    **_rmsgd(),
    **_agc_optims(),
    **_diffgrad(),
    **_adahessian(),
    **_pytorch_optimizer(),
}


def find_preset(name: str) -> Preset:
    """Return a preset, or say which names are close."""
    if name in PRESETS:
        return PRESETS[name]
    close = get_close_matches(name, PRESETS, n=3) or [known for known in PRESETS if name.lower() in known][:3]
    hint = f"did you mean {', '.join(close)}?" if close else "--list shows all of them"
    raise UsageError(f"no preset is called {name!r}: {hint}")
