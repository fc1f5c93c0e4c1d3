"""The dataset loaders of the training example, on tiny files in the formats of the real ones."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.examples.files import write_cifar, write_folders, write_svhn
from tests.examples.kit import train
from training import data
from training.data import Data, Seeded, load, training_batches
from training.settings import Settings, UsageError


@pytest.fixture
def datasets() -> Any:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    return import_module("torchvision.datasets")


def first_test(found: Data) -> Tensor:
    return next(data.test_batches(found, Settings(), 0, 1))[0]


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name: str, datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    pixels = write_cifar(monkeypatch, tmp_path, cls, images=4)
    found = load(Settings(dataset=name, data=str(tmp_path)))
    files = 5 if name == "cifar10" else 1
    assert (len(found.train), len(found.test), found.channels, found.size) == (4 * files, 4, 3, 32)
    assert found.classes == len(found.train.classes) == (10 if name == "cifar10" else 100)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in data.MEAN_AND_DEVIATION[name])
    expected = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / deviation
    seen = [Seeded(found.train, seed=0)[epoch, 0][0] for epoch in range(200)]
    # Flipped or not, and shifted by up to four pixels: among 162 possibilities the untouched image turns up.
    assert len({tuple(image.flatten().tolist()) for image in seen}) > 20
    centre = expected[:, 4:-4, 4:-4]
    windows = [image.unfold(1, 24, 1).unfold(2, 24, 1) for image in seen[:20]]
    for image in windows:
        found_in = (image.permute(1, 2, 0, 3, 4) - centre).abs().amax((2, 3, 4)).amin()
        flipped = (image.permute(1, 2, 0, 3, 4) - centre.flip(2)).abs().amax((2, 3, 4)).amin()
        assert min(found_in, flipped) < 1e-5
    torch.testing.assert_close(first_test(found)[0], found.test[0][0])  # nothing random in the test images
    assert torch.equal(found.test[1][0], found.test[1][0])


@pytest.mark.zoo
def test_svhn(datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy", reason="scipy is not installed")
    write_svhn(monkeypatch, tmp_path, datasets.SVHN, images=11)
    found = load(Settings(dataset="svhn", data=str(tmp_path)))
    assert (len(found.train), len(found.test), found.classes) == (11, 11, 10)
    assert [found.train[i][1] for i in range(11)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]  # the files say 10 for 0
    images = first_test(found)
    assert images.shape == (11, 3, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
    assert torch.equal(Seeded(found.train, 0)[0, 3][0], Seeded(found.train, 0)[7, 3][0])  # no augmentation


@pytest.mark.zoo
def test_image_folders(datasets: Any, tmp_path: Path) -> None:
    write_folders(tmp_path)
    found = load(Settings(dataset="imagenet", data=str(tmp_path), image_size=64))
    assert (len(found.train), len(found.test), found.classes, found.size) == (8, 8, 2, 64)
    assert first_test(found).shape == (8, 3, 64, 64)
    images, labels = next(
        training_batches(found, Settings(dataset="imagenet", batch_size=8), epoch=0, first=0, rank=0, ranks=1)
    )
    assert images.shape == (8, 3, 64, 64)
    assert sorted(labels.tolist()) == [0] * 4 + [1] * 4


@pytest.mark.zoo
def test_a_run_on_image_folders(datasets: Any, tmp_path: Path) -> None:
    write_folders(tmp_path / "data")
    settings = Settings(
        dataset="imagenet", data=str(tmp_path / "data"), image_size=64, model="resnet18", batch_size=4, epochs=1
    )
    run = train(settings, tmp_path / "run")
    assert run.history.epochs[0]["accuracy"] in {100 * k / 8 for k in range(9)}
    assert len(run.history.layers) == 20  # 17 convolutions and 3 projections, all before a batch norm


@pytest.mark.zoo
def test_missing_and_damaged_files(datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(dataset="cifar10", data=str(tmp_path))
    with pytest.raises(UsageError, match=r"missing .*data_batch_1.*batches.meta.* --download"):
        load(settings)
    write_cifar(monkeypatch, tmp_path, datasets.CIFAR10, images=2)
    (tmp_path / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(UsageError, match=r"missing [^,]*data_batch_3\. Add --download"):
        load(settings)
    (tmp_path / "cifar-10-batches-py/data_batch_3").write_bytes(b"something else")
    with pytest.raises(UsageError, match="damaged, their checksums are wrong"):
        load(settings)
    with pytest.raises(UsageError, match=r"missing .*train_32x32.mat, .*test_32x32.mat"):
        load(Settings(dataset="svhn", data=str(tmp_path)))


@pytest.mark.zoo
def test_wrong_image_folders(datasets: Any, tmp_path: Path) -> None:
    settings = Settings(dataset="imagenet", data=str(tmp_path))
    with pytest.raises(UsageError, match=r"expects the folders .*train and .*val .*train does not exist"):
        load(settings)
    write_folders(tmp_path)
    (tmp_path / "val" / "dog").rename(tmp_path / "val" / "wolf")
    with pytest.raises(UsageError, match=r"same classes; only one has \['dog', 'wolf'\]"):
        load(settings)
    for file in (tmp_path / "val" / "cat").iterdir():
        file.unlink()
    with pytest.raises(UsageError, match="cat"):
        load(settings)


def test_digits_are_split_once_and_for_all() -> None:
    found = load(Settings())
    assert (len(found.train), len(found.test), found.channels, found.size, found.classes) == (1437, 360, 1, 8, 10)
    images = torch.stack([found.train[i][0] for i in range(1437)])
    assert images.min() == 0 and images.max() == 1


def test_batches_depend_on_seed_and_epoch_only() -> None:
    found = load(Settings())

    def labels(seed: int, epoch: int, first: int = 0, rank: int = 0, ranks: int = 1, workers: int = 0) -> list[Any]:
        settings = Settings(seed=seed, limit=256, workers=workers)
        return [y.tolist() for _, y in training_batches(found, settings, epoch, first, rank, ranks)]

    whole = labels(0, 0)
    assert [len(batch) for batch in whole] == [64] * 4
    assert labels(0, 0, first=2) == whole[2:]
    assert labels(0, 0, workers=1) == whole
    shares = zip(labels(0, 0, rank=0, ranks=2), labels(0, 0, rank=1, ranks=2), strict=True)
    assert [a + b for a, b in shares] == whole
    assert labels(0, 1) != whole != labels(1, 0)
    torch.rand(3)
    assert labels(0, 0) == whole


def test_every_rank_sees_its_share_of_the_test_images_in_equally_many_batches() -> None:
    found, settings = load(Settings()), Settings(batch_size=64)
    batches = [[len(y) for _, y in data.test_batches(found, settings, rank, 3)] for rank in range(3)]
    assert len({len(sizes) for sizes in batches}) == 1
    assert sum(map(sum, batches)) == 360


def test_loading_leaves_the_random_state_alone() -> None:
    found = load(Settings())
    before = torch.get_rng_state()
    for _ in training_batches(found, Settings(limit=64), 0, 0, 0, 1):
        pass
    assert torch.equal(torch.get_rng_state(), before)
