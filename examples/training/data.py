"""The datasets, and batches whose content depends on the seed, the epoch and the step only.

The order of an epoch is a permutation drawn from (seed, epoch), and the augmentation of an image from (seed, epoch,
index). So neither an interruption nor the number of loading processes or ranks changes what a step sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from training.settings import Settings, UsageError

Images = Any
"""A dataset of (image, label): a tensor after ``transform``, and an int."""
MEAN_AND_DEVIATION = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class Data:
    """Training and test images ``[channels, size, size]`` with labels below ``classes``."""

    train: Images
    test: Images
    channels: int
    size: int
    classes: int


def load(settings: Settings, download: bool = False) -> Data:
    """Read a dataset.

    Args:
        settings: ``dataset``, ``data`` and, for ImageNet, ``image_size``.
        download: fetch what is missing.

    Raises:
        UsageError: files are missing or damaged, with what is expected where; or a library is not installed.
    """
    if settings.dataset == "digits":
        return digits()
    try:
        datasets: Any = import_module("torchvision.datasets")
        transforms: Any = import_module("torchvision.transforms")
    except ImportError as error:
        raise UsageError(f"{settings.dataset} needs torchvision ({error}): pip install 'autogroup[examples]'") from None
    if settings.dataset == "imagenet":
        return image_folder(Path(settings.data), settings.image_size, datasets, transforms)
    crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    normalized = [transforms.ToTensor()]
    if settings.dataset in MEAN_AND_DEVIATION:
        normalized.append(transforms.Normalize(*MEAN_AND_DEVIATION[settings.dataset]))
    augmented = [*(crop if settings.dataset != "svhn" else []), *normalized]
    cls = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "svhn": datasets.SVHN}[settings.dataset]
    parts: list[Images] = []
    for train, steps in ((True, augmented), (False, normalized)):
        which = {"split": "train" if train else "test"} if settings.dataset == "svhn" else {"train": train}
        try:
            parts.append(cls(settings.data, transform=transforms.Compose(steps), download=download, **which))
        except RuntimeError as error:
            raise UsageError(missing(settings, cls, error)) from None
    return Data(*parts, channels=3, size=32, classes=100 if settings.dataset == "cifar100" else 10)


def missing(settings: Settings, cls: Any, error: Exception) -> str:
    """Say which files a dataset of torchvision expects, and how to get them."""
    root = Path(settings.data)
    if settings.dataset == "svhn":
        files = [root / cls.split_list[split][1] for split in ("train", "test")]
        source = ", ".join(cls.split_list[split][0] for split in ("train", "test"))
    else:
        names = [name for name, _ in [*cls.train_list, *cls.test_list]] + [cls.meta["filename"]]
        files, source = [root / cls.base_folder / name for name in names], cls.url
    absent = [str(file) for file in files if not file.exists()]
    if not absent:
        return (
            f"the files of {settings.dataset} in {root} are damaged, their checksums are wrong ({error}): delete them "
            f"and add --download, or get them from {source}"
        )
    return (
        f"{settings.dataset} is not complete in {root}: missing {', '.join(absent)}. Add --download to fetch it, "
        f"or --data FOLDER if it is elsewhere, or unpack {source} there"
    )


def digits() -> Data:
    """Read the 1797 handwritten digits that come with scikit-learn: 8×8, values in [0, 1], one fixed split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError(f"digits needs scikit-learn ({error}): pip install 'autogroup[examples]'") from None
    found: Any = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(found.target, dtype=torch.long)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = (TensorDataset(images[part], labels[part]) for part in order.split((1437, 360)))
    return Data(train, test, channels=1, size=8, classes=10)


def image_folder(root: Path, size: int, datasets: Any, transforms: Any) -> Data:
    """Read ``train/CLASS/*`` and ``val/CLASS/*``, as ImageNet is usually unpacked."""
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise UsageError(
                f"imagenet expects the folders {root / 'train'} and {root / 'val'} with one folder of images per "
                f"class in each; {root / part} does not exist. Say --data FOLDER if they are elsewhere"
            )
    normalized = [transforms.ToTensor(), transforms.Normalize(*MEAN_AND_DEVIATION["imagenet"])]
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    center = [transforms.Resize(size * 8 // 7), transforms.CenterCrop(size)]  # 256 and 224
    try:
        train = datasets.ImageFolder(root / "train", transforms.Compose([*crop, *normalized]))
        test = datasets.ImageFolder(root / "val", transforms.Compose([*center, *normalized]))
    except FileNotFoundError as error:
        raise UsageError(f"imagenet in {root}: {error}") from None
    if train.classes != test.classes:
        differ = sorted(set(train.classes) ^ set(test.classes))
        raise UsageError(f"{root / 'train'} and {root / 'val'} must have the same classes; only one has {differ[:5]}")
    return Data(train, test, channels=3, size=size, classes=len(train.classes))


class Seeded(Dataset[tuple[Tensor, int]]):
    """A dataset that is asked for (epoch, index), and draws its augmentation from them and the seed."""

    def __init__(self, images: Images, seed: int) -> None:
        self.images, self.seed = images, seed

    def __getitem__(self, key: Any) -> tuple[Tensor, int]:
        """Return one image, augmented for this epoch."""
        epoch, index = key
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(hash((self.seed, epoch, index)) & 0x7FFF_FFFF_FFFF_FFFF)
            return self.images[index]


def loader(images: Images, batches: list[list[Any]], settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    """Load these batches of keys. The generator of its own keeps workers from drawing on the global one."""
    load_them: Callable[..., Any] = DataLoader
    return iter(
        load_them(
            images,
            batch_sampler=batches,
            num_workers=settings.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(settings.seed),
        )
    )


def count(images: Images, settings: Settings) -> int:
    """Return how many images are used."""
    return min(len(images), settings.limit or len(images))


def steps_per_epoch(data: Data, settings: Settings) -> int:
    """Return the updates per epoch; images that do not fill a batch wait for another epoch."""
    steps = count(data.train, settings) // settings.batch_size
    if not steps:
        raise UsageError(
            f"--batch-size {settings.batch_size} is more than the {count(data.train, settings)} training images"
        )
    return steps


def training_batches(
    data: Data, settings: Settings, epoch: int, first: int, rank: int, ranks: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's share of every batch of an epoch, from step ``first`` on."""
    generator = torch.Generator().manual_seed(hash((settings.seed, epoch)) & 0x7FFF_FFFF_FFFF_FFFF)
    order = torch.randperm(count(data.train, settings), generator=generator).tolist()
    share = settings.batch_size // ranks
    starts = [step * settings.batch_size + rank * share for step in range(first, steps_per_epoch(data, settings))]
    batches = [[(epoch, index) for index in order[start : start + share]] for start in starts]
    return loader(Seeded(data.train, settings.seed), batches, settings)


def test_batches(data: Data, settings: Settings, rank: int, ranks: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's share of the test images, in as many batches as every other rank has."""
    total = count(data.test, settings)
    batches = math.ceil(total / (ranks * max(settings.batch_size, 256)))
    mine = list(range(rank, total, ranks))
    return loader(data.test, [mine[i::batches] for i in range(batches)], settings)
