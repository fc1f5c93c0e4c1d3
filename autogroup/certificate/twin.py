"""A float64 twin of a model: same architecture, generic values, gradients for every parameter."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autogroup.capture.trees import find_tensors, map_tensors
from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.certificate.exact import exact
from autogroup.errors import CaptureError


def exact_copy(model: nn.Module, mode: str, seed: int) -> nn.Module:
    """Return a float64 CPU copy of ``model`` with generic parameter values, all of them requiring gradients.

    Args:
        model: any module; parameters may be frozen, tied, parametrized or on the meta device. It is not changed.
        mode: "train" or "eval".
        seed: of the private generator that draws the values.

    Raises:
        CaptureError: if the model cannot be copied.
    """
    model = unwrap(model)
    try:
        twin = copy.deepcopy(model, _results(model))
        if any(t.is_meta for t in (*twin.parameters(), *twin.buffers())):
            meta = {name for name, t in (*twin.named_parameters(), *twin.named_buffers()) if t.is_meta}
            twin = twin.to_empty(device="cpu")
            _fill_buffers(twin, meta)
        else:
            meta = set[str]()
            twin = twin.cpu()
        twin = twin.double()
    except (RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise CaptureError(
            f"{type(model).__name__} cannot be copied to float64 ({type(error).__name__}: {error}); "
            "certify() needs copy.deepcopy(model).double() to work"
        ) from error
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in twin.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.data = generic_values(parameter.data, name not in meta, generator)
            parameter.requires_grad_(True)
            parameter.grad = None
    if twin.training is not (mode == "train"):
        # As the capture does it: not train(), whose overrides may do more; flags frozen on purpose remain.
        for module in twin.modules():
            module.training = mode == "train"
    return twin


def _results(model: nn.Module) -> dict[int, Any]:
    """Memo for ``deepcopy``: tensors that are results of a computation and stored on modules, detached."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _fill_buffers(twin: nn.Module, names: set[str]) -> None:
    """Give buffers that had no memory plausible values: floats near one, masks true, indices zero."""
    for name, buffer in twin.named_buffers():
        if name in names:
            buffer.data = torch.ones_like(buffer) if buffer.is_floating_point() else torch.zeros_like(buffer)
            if buffer.dtype == torch.bool:
                buffer.data.fill_(True)


def generic_values(tensor: Tensor, has_values: bool, generator: torch.Generator) -> Tensor:
    """Draw random values on the scale of ``tensor``, or on one guessed from its shape.

    Vectors keep their mean, so that gains stay near one and biases near zero.
    """
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    noise = torch.randn(real.shape, generator=generator, dtype=torch.float64)
    known = has_values and bool(torch.isfinite(real).all())
    if real.dim() < 2:
        centre = float(real.mean().clamp(-2, 2)) if known and real.numel() else 1.0
        value = centre + 0.3 * noise
    else:
        rms = float(real.square().mean().sqrt()) if known and real.numel() else 0.0
        fan_in = max(1, real.numel() // max(1, len(real)))
        value = noise * (min(max(rms, 1e-2), 2.0) if rms > 0 else fan_in**-0.5)
    return torch.view_as_complex(value) if tensor.is_complex() else value


def generic_inputs(data: Any, seed: int) -> Any:
    """Replace floating tensors by random float64 ones; keep integers and 0/1 masks; constant ones stay near one."""
    generator = torch.Generator().manual_seed(seed)

    def draw(leaf: Tensor) -> Tensor:
        if leaf.is_meta:
            leaf = torch.ones(leaf.shape, dtype=leaf.dtype) * (0.5 if leaf.is_floating_point() else 1)
        leaf = leaf.detach().cpu()
        if leaf.is_complex():
            return torch.randn(leaf.shape, generator=generator, dtype=torch.complex128)
        if not leaf.is_floating_point():
            return leaf.clone()
        noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        if bool((leaf == 1).all()):
            return 1 + 0.3 * noise
        is_mask = bool(((leaf == 0) | (leaf == 1) | leaf.isinf()).all()) and bool(leaf.any())
        return leaf.double() if is_mask else noise

    return map_tensors(draw, data)


def run(twin: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], mode: str, seed: int) -> list[Tensor]:
    """Run the twin under ``exact`` and return its floating outputs, complex ones as pairs of real numbers.

    Raises:
        CaptureError: if the forward fails, or no output is a floating tensor.
    """
    try:
        with exact(twin, mode, seed):
            out = twin(*args, **kwargs)
    except Exception as error:  # whatever the model's own code raises
        raise CaptureError(
            f"the forward of a float64 copy of {type(twin).__name__} failed with {type(error).__name__}: {error}; "
            "check that model(*args, **kwargs) runs with the given inputs"
        ) from error
    tensors = [torch.view_as_real(t) if t.is_complex() else t for t in find_tensors(out)]
    floating = [t for t in tensors if t.is_floating_point()]
    if not floating:
        raise CaptureError(f"{type(twin).__name__} returned {type(out).__name__} without a floating tensor in it")
    return floating


def random_loss(outputs: Sequence[Tensor], seed: int) -> Tensor:
    """Return a random smooth function of every output entry; entries that are not finite count as constants."""
    generator = torch.Generator().manual_seed(seed)
    loss = torch.zeros((), dtype=torch.float64)
    for out in outputs:
        y = torch.where(out.abs() < 1e8, out, torch.zeros_like(out)).double()
        a, b = (torch.randn(y.shape, generator=generator, dtype=torch.float64) for _ in range(2))
        loss = loss + (a * y + b * y.sin()).sum() / max(1, y.numel()) ** 0.5
    return loss


@dataclasses.dataclass(frozen=True)
class Sample:
    """A parameter and its gradient at one random point, float64, both of the parameter's shape."""

    weight: Tensor
    grad: Tensor

    @property
    def radial(self) -> Tensor:
        """Entry-wise w · ∂L/∂w; its sum over a block vanishes if the block is scale-invariant."""
        product = self.weight * self.grad.conj()
        return product.real if product.is_complex() else product


def euler_sample(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, mode: str = "train", seed: int = 0
) -> dict[str, Sample]:
    """Return weight and gradient of every parameter at one random point, from one forward and backward pass.

    Any candidate partition of any parameter can be tested on the result: it holds if ``radial`` sums to zero,
    up to rounding, over each of its blocks.

    Args:
        model: any module; it is not changed.
        args: positional example inputs; only their shapes, dtypes and integer values matter.
        kwargs: named example inputs.
        mode: "train" or "eval".
        seed: of every random choice.
    """
    twin = exact_copy(model, mode, seed)
    args, kwargs = generic_inputs(args, seed + 1), generic_inputs(dict(kwargs), seed + 2)
    return gradients(twin, run(twin, args, kwargs, mode, seed), mode, seed)


def gradients(
    twin: nn.Module, outputs: Sequence[Tensor], mode: str, seed: int, *, keep: bool = False
) -> dict[str, Sample]:
    """Differentiate a random loss of ``outputs`` by every parameter; zeros where there is no path."""
    named = {clean_fqn(n): p for n, p in twin.named_parameters() if p.requires_grad}
    try:
        with exact(twin, mode, seed):
            loss = random_loss(outputs, seed)
            if not loss.requires_grad:
                raise CaptureError(f"no output of {type(twin).__name__} depends on a parameter through autograd")
            grads = torch.autograd.grad(loss, list(named.values()), retain_graph=keep, materialize_grads=True)
    except RuntimeError as error:
        raise CaptureError(f"the backward of the float64 copy of {type(twin).__name__} failed: {error}") from error
    return {name: Sample(p.detach(), g.detach()) for (name, p), g in zip(named.items(), grads, strict=True)}
