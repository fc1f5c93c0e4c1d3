"""Run somebody's model and hand it back exactly as it was found."""

from __future__ import annotations

import functools
import gc
import logging
import random
import sys
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

_CONTAINERS = (dict, list, set, OrderedDict, defaultdict)
"""Plain containers, whose copy and update do nothing surprising; subclasses are left alone."""

_NOISY = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")


@contextmanager
def untouched(model: nn.Module, *, training: bool) -> Generator[None]:
    """Set training flags for the body; afterwards restore the model and every global the body may have moved.

    Restored: attributes of every module (parameters, buffers, submodules, hooks, flags, cached tensors, and
    the contents of plain dicts, lists and sets among them), random states of torch, Python and NumPy, and
    function caches of the model's own code. Python's and torch's CPU generator are seeded, so that a capture
    does not depend on what ran before it. Values of parameters and buffers are not copied: the body must
    work on substitutes.

    Args:
        model: the module to protect.
        training: flag that every module has within the body. If the model as a whole already is in that
            mode, flags stay as they are, so that layers frozen on purpose remain so.
    """
    modules = list(model.modules())
    with ExitStack() as stack:
        stack.enter_context(_no_collections())
        stack.enter_context(_random_states())
        stack.enter_context(_function_caches(modules))
        stack.callback(_snapshot(modules))
        switch = model.training is not training
        for module in modules:
            if switch:
                # Not model.train(): overrides of it may do more, such as merging adapters into weights.
                vars(module)["training"] = training
            _disarm(module)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        # Compiled submodules and functions run their original code, also where they would refuse to be traced.
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch._dynamo.config.patch(error_on_nested_fx_trace=False))  # pyright: ignore[reportPrivateUsage]
        stack.enter_context(_quiet())
        yield


@contextmanager
def _quiet() -> Generator[None]:
    """Drop warnings of the model's code, and torch's log of failures that become one error message anyway."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    before = [logger.disabled for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled


def _snapshot(modules: Iterable[nn.Module]) -> Callable[[], None]:
    """Return a function that gives every module's attributes, and plain containers among them, their present contents.

    Containers nested in containers are followed two levels down, which reaches a cache such as ``{size: [tables]}``.
    """
    saved: list[tuple[Any, Any]] = []
    seen: set[int] = set()

    def save(container: Any, depth: int) -> None:
        if id(container) in seen:
            return
        seen.add(id(container))
        copy = container.copy() if container else None
        saved.append((container, copy))
        if copy and depth:
            for value in copy.values() if isinstance(copy, dict) else copy:
                if type(value) in _CONTAINERS:
                    save(value, depth - 1)

    for module in modules:
        save(vars(module), depth=3)

    def restore() -> None:
        for container, copy in saved:
            if copy is None:
                container.clear()
            elif not _same(container, copy):
                container.clear()
                container.extend(copy) if isinstance(container, list) else container.update(copy)

    return restore


def _same(now: Any, before: Any) -> bool:
    """Whether two containers hold identical objects in the same order."""
    if len(now) != len(before):
        return False
    if isinstance(now, set):
        return bool(now == before)
    if isinstance(now, dict):
        pairs = zip(now.items(), before.items(), strict=True)
        return all(k is key and v is value for (k, v), (key, value) in pairs)
    return all(a is b for a, b in zip(now, before, strict=True))


@contextmanager
def _no_collections() -> Generator[None]:
    """Keep the garbage collector from walking the whole heap several times during one trace."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _disarm(module: nn.Module) -> None:
    """Switch off, until the snapshot comes back, what would leave the plain eager forward."""
    state = vars(module)
    if state.get("_compiled_call_impl") is not None:  # module.compile()
        state["_compiled_call_impl"] = None
    for hooks in (state["_forward_pre_hooks"], state["_forward_hooks"]):
        for key in [key for key, hook in hooks.items() if _gathers_shards(hook)]:
            del hooks[key]


def _gathers_shards(hook: Any) -> bool:
    """Whether a hook belongs to ``fully_shard``, which would put its own gathered parameters in place."""
    owner = getattr(hook, "__self__", None)
    where = type(owner).__module__ if owner is not None else getattr(hook, "__module__", "")
    return str(where).startswith("torch.distributed.fsdp")


@contextmanager
def _random_states() -> Generator[None]:
    """Seed Python's, NumPy's and torch's CPU generator, and restore them and CUDA's at the end."""
    cpu, python = torch.get_rng_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    # Not torch.manual_seed: that would also leave a seed behind for a CUDA that starts later.
    torch.default_generator.manual_seed(0)
    random.seed(0)
    if numpy:
        numpy.random.seed(0)
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numpy_state)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _function_caches(modules: list[nn.Module]) -> Generator[None]:
    """Empty, at the end, each ``functools.cache`` in the model's source files that has grown.

    A cached position table would otherwise keep a fake tensor for the next real forward.
    """
    classes = {base for module in modules for base in type(module).__mro__ if base.__module__ != "builtins"}
    namespaces = [vars(cls) for cls in classes]
    files = {cls.__module__ for cls in classes if not cls.__module__.startswith("torch.")}
    namespaces += [vars(sys.modules[name]) for name in files if name in sys.modules]
    wrapper = type(functools.cache(len))
    caches = {id(v): v for space in namespaces for v in list(space.values()) if isinstance(v, wrapper)}
    sizes = [(cache, cache.cache_info().currsize) for cache in caches.values()]
    try:
        yield
    finally:
        for cache, size in sizes:
            if cache.cache_info().currsize != size:
                cache.cache_clear()
