"""What every test shares: one thread, fixed seeds, and skips for what the machine does not have.

The folder of reference trajectories can be replaced with the environment variable ``AUTOGROUP_GOLDEN``.
"""

from __future__ import annotations

import random
from importlib.util import find_spec

import hypothesis
import numpy as np
import pytest
import torch

ZOO_LIBRARIES = ("torchvision", "timm", "transformers")

torch.set_num_threads(1)
if find_spec("torchvision"):
    import tests.zoo.torchvision_ops  # noqa: F401  # before anything imports torchvision: its wheel needs it
hypothesis.settings.register_profile("autogroup", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("autogroup")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random state, so that its order in the run does not matter."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose marker asks for something this machine lacks."""
    missing: dict[str, str] = {}
    if not torch.cuda.is_available():
        missing["gpu"] = "no CUDA device"
    if not any(find_spec(library) for library in ZOO_LIBRARIES):
        missing["zoo"] = f"none of {', '.join(ZOO_LIBRARIES)} is installed"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
