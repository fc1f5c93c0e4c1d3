"""The bare module inside the wrappers people put around it, and parameter names without their prefixes."""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

_WRAPPER_ATTRIBUTES = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Attribute names under which wrappers keep the wrapped module; no bare module uses them."""


def clean_fqn(name: str) -> str:
    """Return a parameter or module name without the parts that wrappers insert.

    Args:
        name: dotted name as ``named_parameters()`` of the wrapped model gives it.

    Returns:
        The name that the bare module would give. The ``module.`` of DDP is not removed here, since a bare
        module may use that word itself: ``unwrap`` takes DDP away.

    Example:
        >>> clean_fqn("_orig_mod.layer1._checkpoint_wrapped_module.conv.weight")
        'layer1.conv.weight'
    """
    return ".".join(part for part in name.split(".") if part not in _WRAPPER_ATTRIBUTES)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DDP, ``torch.compile``, FSDP1 and activation-checkpoint wrappers.

    Args:
        model: any module.

    Returns:
        The bare module; ``model`` itself if nothing is wrapped around it. Wrappers around submodules stay,
        their names are cleaned by ``clean_fqn``.

    Example:
        >>> bare = nn.Linear(2, 3)
        >>> unwrap(nn.DataParallel(bare)) is bare
        True
    """
    while True:
        if isinstance(model, DistributedDataParallel | DataParallel):
            model = model.module
            continue
        inner = next((m for name, m in model.named_children() if name in _WRAPPER_ATTRIBUTES), None)
        if inner is None:
            return model
        model = inner
