"""``autogroup demo``: save a small model, inspect the file, train it with the groups, look at the geometry.

The one file that knows both packages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autogroup.api import auto_param_groups
from autogroup.load import analyze_capture, load
from autogroup.partition import Partition
from autogroup.render import print_table
from autogroup.report import Report
from optimizers import AdamSRT

STEPS = 30
BATCH, SIZE, CLASSES = 64, 16, 10


class DemoNet(nn.Module):
    """A small image classifier with one of each: batch norm, a residual branch, group norm, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.GroupNorm(4, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores [batch, classes] of images [batch, 3, height, width]."""
        x = self.stem_norm(self.stem(images)).relu()
        branch = self.norm1(self.conv1(x)).relu()
        x = (x + self.norm2(self.conv2(branch))).relu()
        x = self.norm3(self.conv3(x)).relu()
        return self.head(x.mean((2, 3)))


def run_demo() -> None:
    """Run the demonstration; prints to standard output, needs no network and no file."""
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        model = DemoNet()
        images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))
        report = _inspect_file(model, images)
        _train(model, images, labels)
        _show_geometry(model, report, images, labels)


@contextmanager
def _one_thread() -> Generator[None]:
    """Layers this small are slower on several threads, and very slow where other programs need the processors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _inspect_file(model: nn.Module, images: Tensor) -> Report:
    """Save the model as an exported program, read the file back and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.pt2"
        torch.export.save(torch.export.export(model, (images,)), path)
        print(f"1. a small CNN, saved with torch.export ({path.stat().st_size / 1024:.0f} KiB) and read back:\n")
        capture = load(str(path)).capture
    assert capture is not None
    report = analyze_capture(capture)
    print_table(report)
    return report


def _train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Take a few optimizer steps with one group per partition."""
    groups = auto_param_groups(model, (images,))
    print("\n2. the groups handed to AdamSRT:\n")
    for group in groups:
        kept = {key: group[key] for key in ("channel_dims", "channel_groups")}
        print(f"   {kept}: {', '.join(group['param_names'])}")
    optimizer = AdamSRT(groups, lr=1e-2)
    print(f"\n3. {STEPS} steps on one batch of random images:\n")
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == STEPS - 1:
            print(f"   step {step:2d}  loss {loss.item():.4f}")


def _show_geometry(model: nn.Module, report: Report, images: Tensor, labels: Tensor) -> None:
    """Print how orthogonal weights and gradients are: what scale invariance means, in one number."""
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    print("\n4. scaling a block leaves the loss unchanged, so its gradient is orthogonal to it: the largest")
    print("   |<w, g>| / (|w| |g|) over the blocks of each parameter (0 but for rounding and the eps of the norms)\n")
    for name, parameter in model.named_parameters():
        partition = report.parameters[name].partition
        if report.parameters[name].verdict == "invariant" and partition is not None:
            print(f"   {name:<12}  {largest_cosine(parameter, partition):.1e}  invariant, {partition}")
    head = model.get_parameter("head.weight")
    whole = Partition.from_dims(tuple(head.shape), (0,))
    print(f"   {'head.weight':<12}  {largest_cosine(head, whole):.1e}  not invariant, for comparison")


def largest_cosine(parameter: nn.Parameter, partition: Partition) -> float:
    """Return the largest |⟨w_b, g_b⟩| / (‖w_b‖‖g_b‖) over the blocks b that have a gradient."""
    assert parameter.grad is not None
    labels = partition.labels.expand(partition.shape).reshape(-1)
    weight, grad = parameter.detach().double().reshape(-1), parameter.grad.double().reshape(-1)

    def per_block(values: Tensor) -> Tensor:
        return torch.zeros(partition.num_blocks, dtype=torch.float64).index_add_(0, labels, values)

    size = (per_block(weight * weight) * per_block(grad * grad)).sqrt()
    return float((per_block(weight * grad).abs() / size)[size > 0].max())
