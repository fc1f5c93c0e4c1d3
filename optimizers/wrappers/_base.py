"""`Wrapper`: an optimizer around an optimizer, with the whole contract of ``torch.optim.Optimizer``."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from optimizers._check import Check, check_options, label
from optimizers._slots import compute_dtype


class Wrapper(Optimizer):
    """Base of all wrappers: shares the groups of the optimizer inside, and keeps what it remembers to itself.

    Schedulers, GradScaler, hooks and checkpoints may hold the wrapper or the optimizer inside: the groups are the same
    objects. The options of the wrapper stand in the groups too, and can be set per group: under their own names, or as
    ``NAME_OPTION`` (``lookahead_alpha``) where the optimizer inside has an option of that name.

    `state_dict` is that of the optimizer inside, with the tensors of the wrapper beside it under ``NAME_SLOT``
    (``lookahead_slow``). It is loaded by the same wrapper, and by the bare optimizer too.

    Attributes:
        optimizer: the optimizer inside.
        slots: the wrapper's own tensors by parameter; the state of the optimizer inside is never touched.
        needs_closure: whether `step` must be given a closure.
    """

    name: ClassVar[str]
    checks: ClassVar[Mapping[str, Check]] = {}
    allows_complex: ClassVar[bool] = False
    needs_closure: bool = False

    def __init__(self, optimizer: Optimizer, options: Mapping[str, Any]) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} wraps a torch.optim.Optimizer, got {type(optimizer).__name__}")
        same = sum(isinstance(inner, Wrapper) and inner.name == self.name for inner in chain_of(optimizer))
        self.prefix = f"{self.name}{same + 1 if same else ''}_"
        self.keys = {key: self.prefix + key if key in optimizer.defaults else key for key in options}
        self.optimizer = optimizer
        self.slots: dict[Tensor, dict[str, Tensor]] = {}
        self.needs_closure = self.needs_closure or needs_closure(optimizer)
        # Not Optimizer.__init__: it would build groups of its own.
        self.__setstate__({"defaults": {**optimizer.defaults, **{self.keys[k]: value for k, value in options.items()}}})
        for group in self.param_groups:
            self._check_group(group)

    # --- what is shared with the optimizer inside --------------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer inside."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The state of the optimizer inside, or copies of its dicts that show the wrapper's own tensors too."""
        if not self.slots:
            return self.optimizer.state
        joined = defaultdict(dict[str, Any], {p: dict(values) for p, values in self.optimizer.state.items()})
        for p, values in self.saved_slots().items():
            joined[p].update({self.prefix + key: value for key, value in values.items()})
        return joined

    def option(self, group: dict[str, Any], key: str) -> Any:
        """Return an option of the wrapper, also for groups that were added to the optimizer inside."""
        return group.setdefault(self.keys[key], self.defaults[self.keys[key]])

    def params(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Yield every parameter with its group."""
        for group in self.param_groups:
            for p in cast("list[Tensor]", group["params"]):
                yield group, p

    def params_with_grad(self) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
        """Return group, parameter and gradient, where there is one.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        found: list[tuple[dict[str, Any], Tensor, Tensor]] = []
        for group in self.param_groups:
            for i, p in enumerate(cast("list[Tensor]", group["params"])):
                if p.grad is not None and p.grad.layout is not torch.strided:
                    where = label(self.param_groups, group, i)
                    raise RuntimeError(f"{type(self).__name__} does not support the sparse gradient of {where}")
                if p.grad is not None:
                    found.append((group, p, p.grad))
        return found

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the optimizer inside."""
        self.optimizer.add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check_group(self, group: dict[str, Any]) -> None:
        options = {key: self.option(group, key) for key in self.keys}
        check_options(type(self).__name__, options, tuple(options), self.checks)
        for i, p in enumerate(cast("list[Tensor]", group["params"])):
            if p.is_complex() and not self.allows_complex:
                where = label(self.param_groups, group, i)
                raise ValueError(f"{where} is complex, which {type(self).__name__} does not support")

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {self.optimizer!r}"

    # --- saving and loading ------------------------------------------------------------------------------------------

    def saved_slots(self) -> Mapping[Tensor, Mapping[str, Tensor]]:
        """Return what to save of the wrapper, by parameter."""
        return self.slots

    def load_slots(self, saved: dict[Tensor, dict[str, Tensor]]) -> None:
        """Take what was saved: float slots in the dtype of the arithmetic, in storage of their own."""
        self.slots = {
            p: {key: x.detach().to(p.device, compute_dtype(p.dtype), copy=True) for key, x in values.items()}
            for p, values in saved.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the optimizer inside, with the wrapper's own tensors beside it."""
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        found = self.optimizer.state_dict()
        state = dict(found["state"])
        ids = itertools.chain.from_iterable(group["params"] for group in found["param_groups"])
        own = self.saved_slots()
        for key, (_, p) in zip(ids, self.params(), strict=True):
            if p in own:
                state[key] = {**state.get(key, {}), **{self.prefix + name: x for name, x in own[p].items()}}
        found = {**found, "state": state}
        for after in self._optimizer_state_dict_post_hooks.values():
            replaced = after(self, found)
            found = found if replaced is None else replaced
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` of this wrapper, or of the bare optimizer, returned."""
        state_dict = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = before(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        inner: dict[Any, Any] = {}
        own: dict[Any, dict[str, Tensor]] = {}
        for key, values in state_dict["state"].items():
            mine = {name for name in values if str(name).startswith(self.prefix)}
            own[key] = {name.removeprefix(self.prefix): values[name] for name in mine}
            rest = {name: value for name, value in values.items() if name not in mine}
            if rest or not mine:
                inner[key] = rest
        self.optimizer.load_state_dict({**state_dict, "state": inner})
        ids = itertools.chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        self.load_slots({p: own[key] for key, (_, p) in zip(ids, self.params(), strict=True) if own.get(key)})
        for group in self.param_groups:
            self._check_group(group)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the public attributes: hooks, and a ``step`` patched by a scheduler, stay with the original."""
        return {name: x for name, x in self.__dict__.items() if not name.startswith("_") and name != "step"}


def chain_of(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and all optimizers inside it, from the outside in."""
    yield optimizer
    if isinstance(optimizer, Wrapper):
        yield from chain_of(optimizer.optimizer)


def needs_closure(optimizer: Optimizer) -> bool:
    """Return whether ``optimizer.step`` evaluates a closure more than once, and so cannot do without."""
    return isinstance(optimizer, LBFGS) or bool(getattr(optimizer, "needs_closure", False))


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """Return what the closure returns, with gradients enabled; ``None`` without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
