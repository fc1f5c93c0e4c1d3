"""`BlockOptimizer`: the ``torch.optim.Optimizer`` contract around one pure rule per algorithm.

A subclass declares ``slots`` (its state), translates a group's options into numbers and flags in ``hyper``, and writes
its equations once in ``rule``. Everything else happens here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from optimizers._check import CHECKS, Check, check_options, check_partition_keys, label
from optimizers._compile import Compiler
from optimizers._math import Blocks, elementwise, resolve
from optimizers._paths import Shared, run_compiled, run_foreach, run_loop
from optimizers._rows import Row
from optimizers._slots import Slot

IMPLS = ("auto", "loop", "foreach", "compiled")


def _nothing(*_: Any) -> None: ...


def options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a group, in the first line of a constructor from its ``locals()``: each is written once."""
    others = ("self", "__class__", "params", "impl", "generator")
    return {name: value for name, value in arguments.items() if name not in others}


def stated_blocks(
    group: Mapping[str, Any], shape: tuple[int, ...], unstated: Callable[[tuple[int, ...]], Blocks]
) -> Blocks:
    """Return the blocks that the group states for a parameter of ``shape``, else ``unstated(shape)``."""
    dims, count = check_partition_keys(group["channel_dims"], group["channel_groups"])
    stated = resolve(shape, dims, count)
    return unstated(shape) if dims is None else stated


class BlockOptimizer(Optimizer):
    """Base of all optimizers here. A subclass sets ``rule``, ``slots`` and ``hyper``.

    Attributes:
        rule: ``rule(p, g, *slots, h)``, a static method: the equations. It updates p and the slots in place and leaves
            the gradient g as it is. The slots come in the order of their declaration, ``None`` where one is not wanted;
            h has the numbers and flags of ``hyper``, and ``h.blocks``. It uses only tensor methods that `TensorList`
            has too, reduces only through ``h.blocks``, and branches on flags and ``None``, never on numbers or tensors.
        observe: a rule that is applied to all parameters before any of them is updated, then `prepare` is called. For
            algorithms with numbers of the whole model. It changes slots only; p is the parameter before the step.
        slots: name → `Slot`: the whole per-parameter state besides ``step``.
        at_construction: whether the state of trainable parameters exists from construction on, because it remembers
            them as they are then. Otherwise it is created in the first step with a gradient.
        impls: the paths the rule supports; rules on whole matrices are loop-only.
        checks: bounds of options that the shared table `CHECKS` lacks or defines otherwise.
        impl: the path asked for; ``"auto"`` is ``loop`` on a CPU, else ``foreach`` if the class supports it.
    """

    rule: ClassVar[Callable[..., None]]
    observe: ClassVar[Callable[..., None]] = _nothing
    slots: ClassVar[Mapping[str, Slot]] = {}
    at_construction: ClassVar[bool] = False
    impls: ClassVar[tuple[str, ...]] = ("loop", "foreach", "compiled")
    checks: ClassVar[Mapping[str, Check]] = {}

    def hyper(self, group: Mapping[str, Any], t: int, blocks: Blocks) -> dict[str, float | bool]:
        """Return what the rule needs to know, by name.

        Floats are numbers: they may change every step and reach the rule as a float, one float per row, or a 0-d
        tensor. Bools are flags: the rule may branch on them, and each combination is compiled once. All arithmetic on
        numbers alone belongs here, in double precision.
        """
        raise NotImplementedError

    def phases(self, group: Mapping[str, Any]) -> Sequence[int]:
        """Return step counts at which the flags of `hyper` take all their values, 1 first.

        The compiled path builds the graphs of all of them in its first step, so that no later one waits for a compiler.
        """
        return (1,)

    def partition(self, group: Mapping[str, Any], shape: tuple[int, ...]) -> Blocks:
        """Return the blocks of a parameter. Read from the group at every step, so an edited group is honoured."""
        if "channel_dims" not in self.defaults:
            return elementwise(shape)
        dims, count = check_partition_keys(group["channel_dims"], group["channel_groups"])
        if dims is None and group["channel_wise"]:
            dims = (0,)
        return resolve(shape, dims, count)

    def __init__(self, params: ParamsT, defaults: dict[str, Any], impl: str = "auto") -> None:
        if impl != "auto" and impl not in self.impls:
            raise ValueError(f"{type(self).__name__}: impl must be one of {('auto', *self.impls)}, got {impl=}")
        self.impl = impl
        self._start()
        super().__init__(params, defaults)

    def _start(self) -> None:
        """Set what is neither a hyper-parameter nor state, and therefore not saved."""
        self._compiler = Compiler()
        self._warm = False

    # --- groups ---------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, after checking its options and its partition against every parameter.

        Raises:
            ValueError: an option out of bounds, a partition that does not fit, or a complex parameter.
        """
        # A copy, so that the caller can hand the same groups to a second optimizer.
        group = dict(param_group) if isinstance(param_group, dict) else param_group
        if isinstance(group, dict) and "channel_dims" in group and "channel_wise" in self.defaults:
            # A group that states its partition, be it None, is not overruled by the constructor's channel_wise.
            group.setdefault("channel_wise", False)
        super().add_param_group(group)
        added = self.param_groups[-1]
        try:
            self._check_group(added)
        except ValueError:
            self.param_groups.pop()
            raise
        self._warm = False
        for i, p in enumerate(cast("list[Tensor]", added["params"]) if self.at_construction else []):
            if p.requires_grad:
                self._slots(added, p, self._blocks(added, i))

    def _check_group(self, group: dict[str, Any]) -> None:
        check_options(type(self).__name__, group, tuple(self.defaults), {**CHECKS, **self.checks})
        names = group.get("param_names")
        if names is not None and len(names) != len(group["params"]):
            raise ValueError(f"got {len(names)} param_names for {len(group['params'])} params")
        for i, p in enumerate(group["params"]):
            if p.is_complex():
                raise ValueError(f"{self._label(group, i)} is complex, which {type(self).__name__} does not support")
            self._blocks(group, i)

    def _blocks(self, group: dict[str, Any], i: int) -> Blocks:
        try:
            return self.partition(group, tuple(group["params"][i].shape))
        except ValueError as error:
            raise ValueError(f"{self._label(group, i)}: {error}") from None

    def _label(self, group: dict[str, Any], i: int) -> str:
        """Name a parameter in a message."""
        return label(self.param_groups, group, i)

    # --- the step -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step.

        Args:
            closure: recomputes the loss; called first, with gradients enabled.

        Returns:
            What the closure returned, else ``None``.

        Raises:
            RuntimeError: a gradient is sparse. Nothing has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rows = self._rows()
        full = [row for row in rows if row.p.numel()]
        if type(self).observe is not _nothing:
            self._run(type(self).observe, full, Shared())
        self._run(type(self).rule, full, Shared(self.prepare(rows)))
        self._warm = True
        return loss

    def _run(self, rule: Any, rows: list[Row], shared: Shared) -> None:
        rule = signed(rule) if "maximize" in self.defaults else rule
        impl = self.impl
        if impl == "auto":  # a foreach call saves kernel launches, which are free on a CPU
            on_cpu = all(row.p.device.type == "cpu" for row in rows)
            impl = "loop" if on_cpu or "foreach" not in self.impls else "foreach"
        if impl == "compiled":
            run_compiled(rule, rows if self._warm else chain(rows, self._stand_ins()), shared, self._compiler)
        elif impl == "foreach":
            run_foreach(rule, rows, shared)
        else:
            run_loop(rule, rows, shared)

    def prepare(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """Look at all rows after `observe` and before any is updated.

        Returns:
            Numbers of the whole model, which the rule finds in h: 0-d tensors, which it may multiply and divide by.
        """
        return {}

    def _rows(self) -> list[Row]:
        """Count the step of every parameter that has a gradient, and collect what its rule needs."""
        found = [
            (group, i, p)
            for group in self.param_groups
            for i, p in enumerate(cast("list[Tensor]", group["params"]))
            if p.grad is not None
        ]
        for group, i, p in found:
            if cast("Tensor", p.grad).layout is not torch.strided:
                raise RuntimeError(
                    f"{type(self).__name__} does not support the sparse gradient of {self._label(group, i)}"
                )
        partitions = [self._blocks(group, i) for group, i, _ in found]
        slots = [self._slots(group, p, blocks) for (group, _, p), blocks in zip(found, partitions, strict=True)]
        steps = [cast("Tensor", self.state[p]["step"]) for _, _, p in found]
        if steps:
            torch._foreach_add_(steps, 1.0)  # pyright: ignore[reportPrivateUsage]
        memo: dict[object, tuple[dict[str, float], dict[str, bool]]] = {}
        rows: list[Row] = []
        for (group, _, p), blocks, values, step in zip(found, partitions, slots, steps, strict=True):
            t = int(step.item())
            key = id(group), t, blocks
            if key not in memo:
                memo[key] = _split(self.hyper(group, t, blocks))
            rows.append(Row(p, cast("Tensor", p.grad), values, blocks, *memo[key]))
        return rows

    def _slots(self, group: dict[str, Any], p: Tensor, blocks: Blocks) -> list[Tensor | None]:
        """Return the slots of ``p`` in the order of their declaration, creating what is missing, by name."""
        state = cast("dict[str, Tensor]", self.state[p])
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        values: list[Tensor | None] = []
        for name, slot in self.slots.items():
            if not slot.wanted(group):
                values.append(None)
                continue
            state[name] = slot.fit(state[name], p, blocks) if name in state else slot.new(p, blocks, group)
            values.append(state[name])
        return values

    def _stand_ins(self) -> Iterator[Row]:
        """Yield zeros in place of trainable parameters, so that graphs exist before they are needed.

        Those are the graphs of parameters without a gradient, and of all parameters in later phases.
        """
        for group in self.param_groups:
            for i, p in enumerate(cast("list[Tensor]", group["params"])):
                for t in self.phases(group):
                    if p.requires_grad and p.numel() and (p.grad is None or t > 1):
                        blocks = self._blocks(group, i)
                        values, flags = _split(self.hyper(group, t, blocks))
                        wanted = [slot if slot.wanted(group) else None for slot in self.slots.values()]
                        slots = [None if slot is None else slot.new(p, blocks, group) for slot in wanted]
                        yield Row(torch.zeros_like(p), torch.zeros_like(p), slots, blocks, values, flags)

    # --- saving and loading -----------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "impl": self.impl}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        torch casts every floating slot to the dtype of its parameter, which would round the float32 state of
        half-precision parameters. Here every slot comes back in its declared dtype, bit for bit, in its own storage.
        """
        loaded: dict[str, Any] = {}

        def look(_: Optimizer, final: dict[str, Any]) -> None:
            loaded.update(final)

        def restore(_: Optimizer) -> None:
            self._restore(loaded)

        # After the user's pre-hooks, which may rewrite the dict; before the user's post-hooks, which see the result.
        hooks = [
            self.register_load_state_dict_pre_hook(look),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _restore(self, loaded: dict[str, Any]) -> None:
        saved_ids = chain.from_iterable(group["params"] for group in loaded["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for saved_id, p in zip(saved_ids, params, strict=True):
            saved = loaded["state"].get(saved_id, {})
            state = self.state[p] if saved else {}
            for name in (name for name in self.slots if name in saved):
                state[name] = saved[name].detach().to(p.device, self.slots[name].dtype_for(p), copy=True)
            if "step" in saved:
                state["step"] = torch.tensor(float(saved["step"]), dtype=torch.float32, device="cpu")


def _split(hyper: dict[str, float | bool]) -> tuple[dict[str, float], dict[str, bool]]:
    numbers = {name: float(x) for name, x in hyper.items() if not isinstance(x, bool)}
    return numbers, {name: x for name, x in hyper.items() if isinstance(x, bool)}


@cache
def signed(rule: Callable[..., None]) -> Callable[..., None]:
    """Return the rule that goes up instead of down when the flag ``maximize`` is set."""

    def ascending(p: Tensor, g: Tensor, *rest: Any) -> None:
        rule(p, g.neg() if rest[-1].maximize else g, *rest)

    return ascending
