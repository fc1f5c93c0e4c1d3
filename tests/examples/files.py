"""Tiny datasets in the formats of the real ones: the files that a user downloads, with a few random images."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar(monkeypatch: pytest.MonkeyPatch, root: Path, cls: Any, images: int) -> np.ndarray:
    """Write the pickled batches of CIFAR-10 or -100, and let torchvision expect their checksums.

    Returns:
        The first training image, ``[32, 32, 3]``.
    """
    random = np.random.default_rng(0)
    fine = cls.base_folder == "cifar-100-python"
    key, classes = ("fine_labels", 100) if fine else ("labels", 10)
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    first: np.ndarray | None = None
    expected: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for attribute, found in expected.items():
        for name, _ in getattr(cls, attribute):
            pixels = random.integers(0, 256, (images, 3072), dtype=np.uint8)
            first = pixels[0].reshape(3, 32, 32).transpose(1, 2, 0) if first is None else first
            labels = [int(label) for label in random.integers(0, classes, images)]
            batch = {"data": pixels, key: labels, "filenames": [f"{i}.png" for i in range(images)]}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
            found.append([name, md5(folder / name)])
    meta = {"fine_label_names" if fine else "label_names": [f"class {i}" for i in range(classes)]}
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))
    monkeypatch.setattr(cls, "train_list", expected["train_list"])
    monkeypatch.setattr(cls, "test_list", expected["test_list"])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(folder / cls.meta["filename"])})
    assert first is not None
    return first


def write_svhn(monkeypatch: pytest.MonkeyPatch, root: Path, cls: Any, images: int) -> None:
    """Write the .mat files of SVHN: ``X [32, 32, 3, n]``, ``y [n, 1]`` with 10 for the digit 0."""
    from scipy.io import savemat

    random = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    splits = dict(cls.split_list)
    for split in ("train", "test"):
        url, name, _ = splits[split]
        labels = np.arange(images, dtype=np.uint8)[:, None] % 10 + 1
        savemat(root / name, {"X": random.integers(0, 256, (32, 32, 3, images), dtype=np.uint8), "y": labels})
        splits[split] = [url, name, md5(root / name)]
    monkeypatch.setattr(cls, "split_list", splits)


def write_folders(root: Path, classes: tuple[str, ...] = ("cat", "dog"), images: int = 4) -> None:
    """Write ``train/CLASS/*`` and ``val/CLASS/*`` with PNG and JPEG files of several sizes."""
    from PIL import Image

    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for i in range(images):
                pixels = random.integers(0, 256, (40 + 8 * i, 56, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.{('png', 'jpeg')[i % 2]}")
