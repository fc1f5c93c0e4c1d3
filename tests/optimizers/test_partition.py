"""Partitions inside an optimizer: who wins, edits between steps, independence of blocks."""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from tests.optimizers import problem
from tests.optimizers.cases import Config, OptimizerCase

SHAPE = (6, 4)


def path(case: OptimizerCase, steps: int = 5, edit: dict[str, Any] | None = None, at: int = 0, **group: Any) -> Any:
    """Run one weight under the given group options; apply ``edit`` to the group before step ``at``."""
    p = Parameter(torch.tensor(problem.initial("heads")))
    optimizer = case.cls([{"params": [p], "param_names": ["heads"], **group}], **case.scale_free)
    for t in range(steps):
        if edit is not None and t == at:
            optimizer.param_groups[0].update(edit)
        p.grad = torch.tensor(problem.gradient("heads", t))
        optimizer.step()
    return p.detach(), optimizer.state[p]


def partitioned(case: OptimizerCase) -> bool:
    if "partition" in case.skip:
        return False
    assert "channel_dims" in case.cls([Parameter(torch.ones(1))]).defaults, "say why in skip['partition']"
    return True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"channel_wise": True}, {"channel_dims": (0,)}),
        ({"channel_wise": True, "channel_dims": (1,)}, {"channel_dims": (1,)}),
        ({"channel_wise": True, "channel_dims": ()}, {"channel_dims": []}),
        ({"channel_dims": (0, 1)}, {"channel_dims": None}),
        ({"channel_dims": (-2,)}, {"channel_dims": (0,)}),
        ({"channel_dims": (1, 0)}, {"channel_dims": None}),
        ({"channel_dims": (0,), "channel_groups": 6}, {"channel_dims": (0,)}),
        ({"channel_dims": (0,), "channel_groups": 1}, {"channel_dims": ()}),
    ],
)
def test_same_partition_said_differently(case: OptimizerCase, one: dict[str, Any], other: dict[str, Any]) -> None:
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    (p, a), (q, b) = path(case, **one), path(case, **other)
    assert torch.equal(p, q)
    problem.assert_same(a, b)


def test_partitions_differ(case: OptimizerCase) -> None:
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    options: list[dict[str, Any]] = [{"channel_dims": dims} for dims in (None, (), (0,), (1,))]
    options += [{"channel_dims": (0,), "channel_groups": groups} for groups in (2, 3)]
    ends = [path(case, **option)[0] for option in options]
    for i, x in enumerate(ends):
        assert not any(torch.allclose(x, y) for y in ends[:i]), options[i]


def test_a_group_that_says_none_means_none(case: OptimizerCase) -> None:
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    p = Parameter(torch.ones(6, 4))
    optimizer = case.cls([{"params": [p], "channel_dims": None}], channel_wise=True)
    assert optimizer.partition(optimizer.param_groups[0], (6, 4)).elementwise


def test_an_edited_group_is_honoured(case: OptimizerCase) -> None:
    """Slots of blocks are sums: after the edit, the run goes on as if the sums had been regrouped by hand."""
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    fine = {"channel_dims": (0,), "channel_groups": None}
    coarse = {"channel_dims": (0,), "channel_groups": 3}
    edited, edited_state = path(case, edit=coarse, at=3, **fine)
    assert not torch.equal(path(case, **fine)[0], edited)

    middle, state = path(case, steps=3, **fine)
    q = Parameter(middle.clone())
    by_hand = case.cls([{"params": [q], **coarse}], **case.scale_free)
    for name, value in state.items():
        block = name != "step" and case.cls.slots[name].shape == "block"
        by_hand.state[q][name] = value.view(3, 2, 1).sum(1) if block else value
    for t in (3, 4):
        q.grad = torch.tensor(problem.gradient("heads", t))
        by_hand.step()
    assert torch.equal(q, edited)
    problem.assert_same(by_hand.state[q], edited_state)

    _, state = path(case, edit=fine, at=3, **coarse)  # and back, from coarse to fine
    assert all(state[name].shape == (6, 1) for name, slot in case.cls.slots.items() if slot.shape == "block")
    assert all(x.isfinite().all() for x in state.values())


def test_a_wrong_edit_is_refused_by_name(case: OptimizerCase) -> None:
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    with pytest.raises(ValueError, match=r"parameter 'heads': .*channel_dims=\(5,\)"):
        path(case, edit={"channel_dims": (5,)})


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_blocks_are_independent(case: OptimizerCase, impl: str, groups: int) -> None:
    if not partitioned(case):
        pytest.skip(case.skip["partition"])
    for config in case.configs.values():
        kwargs = {**config.kwargs, "impl": impl, "channel_wise": False}
        whole = Parameter(torch.tensor(problem.initial("conv")))
        parts = [Parameter(x.clone()) for x in torch.tensor(problem.initial("conv")).chunk(groups)]
        a = case.cls([whole], **{**kwargs, "channel_dims": (0,), "channel_groups": groups})
        b = case.cls(parts, **{**kwargs, "channel_dims": ()})
        for t in range(5):
            whole.grad = torch.tensor(problem.gradient("conv", t))
            for part, g in zip(parts, whole.grad.chunk(groups), strict=True):
                part.grad = g.clone()
            a.step()
            b.step()
        torch.testing.assert_close(whole, torch.cat(list(parts)), rtol=1e-12, atol=1e-13)
        for name in a.state[whole].keys() - {"step"}:
            joined = torch.cat([b.state[part][name] for part in parts])
            torch.testing.assert_close(a.state[whole][name], joined, rtol=1e-12, atol=1e-13)


def test_block_slots_hold_one_number_per_block(case: OptimizerCase, config: Config) -> None:
    params = problem.parameters()
    optimizer = problem.build(case, config, params, "auto")
    problem.step(optimizer, params, 5)
    for group in optimizer.param_groups:
        for p in group["params"]:
            blocks = optimizer.partition(group, tuple(p.shape))
            for name, slot in case.cls.slots.items():
                if name in optimizer.state[p]:
                    want = blocks.shape if slot.shape == "block" else tuple(p.shape)
                    assert tuple(optimizer.state[p][name].shape) == want
