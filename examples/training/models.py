"""ResNet-18 and -34, ResNet-20 and VGG-16, with batch normalization, for small images.

The ResNets of He et al. (arXiv 1512.03385): 20 layers and up to 64 channels for CIFAR, 18 and 34 layers and up to 512
channels for ImageNet, whose stem shrinks images of 64 pixels and more by four and leaves smaller ones as they are.
VGG-16 (arXiv 1409.1556) has its 13 convolutions and one linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 64
"""Images of this side and above get the stem of ImageNet."""


class Block(nn.Module):
    """Two 3×3 convolutions with batch norms, around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``x [batch, inputs, h, w]`` → ``[batch, outputs, h / stride, w / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images ``[batch, channels, size, size]`` → logits ``[batch, classes]``.

    Args:
        depths: blocks per stage; every stage but the first halves the image and doubles the channels.
        width: channels of the first stage.
        channels: 1 or 3.
        classes: number of logits.
        size: side of the images.
    """

    def __init__(self, depths: tuple[int, ...], width: int, channels: int, classes: int, size: int) -> None:
        super().__init__()
        large = size >= LARGE and width == 64
        self.conv = nn.Conv2d(channels, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        blocks: list[nn.Module] = []
        inputs = width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                blocks.append(Block(inputs, width << stage, 2 if stage and not i else 1))
                inputs = width << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = self.pool(F.relu(self.bn(self.conv(x))))
        return self.head(self.blocks(x).mean((2, 3)))


class VGG(nn.Module):
    """VGG with batch norms and a linear head; images as for `ResNet`. Pooling ends at one pixel."""

    def __init__(self, stages: tuple[tuple[int, int], ...], channels: int, classes: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, depth in stages:
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            if size > 1:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return self.head(self.features(x).mean((2, 3)))


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "resnet18": partial(ResNet, (2, 2, 2, 2), 64),
    "resnet20": partial(ResNet, (3, 3, 3), 16),
    "resnet34": partial(ResNet, (3, 4, 6, 3), 64),
    "vgg16": partial(VGG, ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))),
}
"""Name → constructor from the channels of the images, the number of classes and the side of the images."""


def build_model(name: str, channels: int, classes: int, size: int, seed: int) -> nn.Module:
    """Return a model whose initial weights depend on the seed only; convolutions as in He et al. (arXiv 1502.01852)."""
    torch.manual_seed(seed)
    model = MODELS[name](channels, classes, size)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
