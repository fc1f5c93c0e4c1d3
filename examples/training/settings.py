"""What a run is: one frozen record, stored beside its results, so that a run can be resumed and compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """What the user asked for cannot be done; the message says why and what to do."""


DATASETS = ("digits", "cifar10", "cifar100", "svhn", "imagenet")
SCHEDULES = ("constant", "cosine", "step", "knee")
AMP = ("off", "bf16", "fp16")
DECAY = ("all", "weights", "variant")
HARMLESS = ("data", "workers")
"""Settings that do not change the result, and may be others when a run is resumed."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run.

    Attributes:
        dataset: one of `DATASETS`.
        data: folder that holds the datasets.
        model: a name of ``models.MODELS``.
        image_size: side of the crops of ``imagenet``.
        optimizer: a name of ``optimizers.list_optimizers()``, or of a class of ``torch.optim``.
        options: its options, ``lr`` among them; those of a wrapper as ``wrapper.option``.
        wrap: wrappers around it, from the inside out.
        decay: which parameters ``weight_decay`` decays: ``all`` as in the published experiments, ``weights`` without
            norms and biases, ``variant`` without scale-invariant weights either.
        schedule: one of `SCHEDULES`, or ``None``: cosine, or constant for an optimizer with a schedule of its own.
        milestones: epochs at which ``step`` multiplies the rate by ``gamma``.
        gamma: see ``milestones``.
        warmup: epochs of linear warm-up.
        epochs: passes over the training images.
        batch_size: images per update, over all processes.
        accumulate: parts a process cuts its share of a batch into; each is one forward and backward pass.
        seed: of the initial weights, the order of the images and the augmentation.
        amp: one of `AMP`.
        fsdp: shard the parameters over the processes.
        workers: processes that load images.
        limit: use only so many training and test images.
        preset: the published run that the settings started from.
    """

    dataset: str = "digits"
    data: str = "data"
    model: str = "resnet20"
    image_size: int = 224
    optimizer: str = "adamsrt"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    wrap: tuple[str, ...] = ()
    decay: str = "all"
    schedule: str | None = None
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.0
    epochs: int = 12
    batch_size: int = 64
    accumulate: int = 1
    seed: int = 0
    amp: str = "off"
    fsdp: bool = False
    workers: int = 0
    limit: int | None = None
    preset: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        for name, least in {"epochs": 1, "batch_size": 1, "accumulate": 1, "workers": 0, "image_size": 32}.items():
            if getattr(self, name) < least:
                raise UsageError(f"{flag(name)} must be at least {least}, got {getattr(self, name)}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1, got {self.limit}")
        if not 0 <= self.warmup <= self.epochs:
            raise UsageError(f"--warmup must be from 0 to the number of epochs, {self.epochs}, got {self.warmup:g}")
        if self.schedule == "step" and not self.milestones:
            raise UsageError("--schedule step needs --milestones, the epochs at which the rate falls: --milestones 6,9")

    @property
    def name(self) -> str:
        """A short name for folders."""
        return "-".join((self.dataset, self.model, *reversed(self.wrap), self.optimizer))

    def same_result(self, other: Settings) -> bool:
        """Whether a run may go on with other settings: they differ at most in how images are loaded."""
        return replace(self, **{key: getattr(other, key) for key in HARMLESS}) == other

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as JSON knows it."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Return the settings that ``to_dict`` wrote."""
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise UsageError(f"the stored settings have unknown entries: {', '.join(unknown)}")
        lists: dict[str, Any] = {key: tuple(data[key]) for key in ("wrap", "milestones") if key in data}
        return cls(**{**data, **lists})

    @classmethod
    def load(cls, folder: Path) -> Settings:
        """Read the settings of the run in a folder."""
        try:
            return cls.from_dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UsageError(f"{folder / 'run.json'} does not hold the settings of a run: {error}") from None


def flag(name: str) -> str:
    """Return the option of the command line that sets a field."""
    return "--" + name.replace("_", "-")
