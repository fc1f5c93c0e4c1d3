"""Declare two operators that torchvision's wheel registers in an extension a CPU build of torch cannot load.

Importing torchvision asks for their existence; none of the models of the zoo calls them.
"""

from __future__ import annotations

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
"""Kept alive: the definitions end with the object."""


def declare() -> None:
    """Define the operators unless torchvision's own library has done so. Call it before importing torchvision."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _LIBRARY.define(name + _SIGNATURE)


declare()
