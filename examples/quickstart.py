"""Which weights are scale-invariant, and an optimizer that knows it: the ten lines of the README."""

import torch
from torch import nn

import autogroup
from optimizers import AdamSRT

stem = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU())
body = nn.Sequential(nn.Conv2d(16, 32, 3, bias=False), nn.GroupNorm(4, 32), nn.ReLU())
model = nn.Sequential(stem, body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
images = torch.randn(8, 3, 32, 32)

autogroup.print_table(autogroup.analyze(model, (images,)))
optimizer = AdamSRT(autogroup.auto_param_groups(model, (images,)), lr=1e-3)
model(images).square().mean().backward()
optimizer.step()
