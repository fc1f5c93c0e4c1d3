"""The registry finds every public class, and what it says of them is what they do."""

import re

import pytest
import torch
from torch.nn import Parameter

import optimizers
from optimizers import registry, wrappers
from optimizers._base import BlockOptimizer
from optimizers.registry import (
    get_supported_optimizers,
    list_optimizers,
    list_wrappers,
    load_optimizer,
    load_wrapper,
)
from tests.optimizers.cases import OptimizerCase

INFO = get_supported_optimizers()


def test_every_public_optimizer_is_found_under_any_spelling() -> None:
    classes = [getattr(optimizers, name) for name in optimizers.__all__]
    classes = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, BlockOptimizer)]
    assert len(classes) == len(list_optimizers())
    for cls in classes:
        name = cls.__name__
        for spelling in (name, name.lower(), name.upper(), name.replace("_", ""), name.replace("_", "-"), f"_{name}"):
            assert load_optimizer(spelling) is cls
    assert all(load_wrapper(name).__name__.lower() == name for name in list_wrappers())
    assert {load_wrapper(name) for name in list_wrappers()} >= {wrappers.SAM, wrappers.PCGrad, wrappers.Lookahead}


def test_patterns() -> None:
    assert list_optimizers() == sorted(list_optimizers()) == list(INFO)
    assert {"adams", "adamsrt"} <= set(list_optimizers("AdamS*"))
    assert all(name.startswith("sgd") for name in list_optimizers("sgd*"))
    assert list_optimizers("nothing*") == []
    assert get_supported_optimizers("nothing*") == {}


@pytest.mark.parametrize("error", [ValueError, NotImplementedError])
def test_unknown_names(error: type[Exception]) -> None:
    with pytest.raises(error, match=r"no optimizer is called 'adamsrtt': did you mean adamsrt"):
        load_optimizer("adamsrtt")
    with pytest.raises(error, match=r"no optimizer is called 'zzzzzz': there are .*adams, adamsrt"):
        load_optimizer("zzzzzz")
    with pytest.raises(error, match=r"no wrapper is called 'lookahed': did you mean lookahead\?"):
        load_wrapper("lookahed")


def test_names_that_differ_only_in_case_are_refused() -> None:
    twin = type("ADAMSRT", (BlockOptimizer,), {})
    module = type("module", (), {"AdamSRT": optimizers.AdamSRT, "ADAMSRT": twin})
    with pytest.raises(RuntimeError, match="two classes are called 'adamsrt'"):
        registry._classes(["AdamSRT", "ADAMSRT"], module, BlockOptimizer)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("name", INFO)
def test_what_is_said_is_in_the_documentation(name: str) -> None:
    info = INFO[name]
    text = info.cls.__doc__ or ""
    assert info.summary
    assert info.summary in text
    if info.paper is not None:
        assert re.fullmatch(r"\d{4}\.\d{4,5}", info.paper)
        assert info.paper in text
    else:
        assert "arXiv" not in text[text.find("Source:") :]


def test_slots_and_bytes_are_what_a_step_creates(case: OptimizerCase) -> None:
    cls = case.cls
    info = INFO[cls.__name__.lower()]
    config = next(iter(case.configs.values()))
    p = Parameter(torch.ones(4, 3))
    optimizer = cls([p], **{key: config.kwargs[key] for key in info.required})
    loss = (p * torch.arange(12.0).view(4, 3)).square().sum()
    (p.grad,) = torch.autograd.grad(loss, p, create_graph=info.needs_create_graph)
    optimizer.step()
    p.grad = None
    state = {key: x for key, x in optimizer.state[p].items() if key != "step"}
    assert set(state) == set(info.slots)
    # Every entry is its own block here, so slots with one number per block are as large as the parameter.
    whole = [x for key, x in state.items() if cls.slots[key].shape == "full"]
    assert info.bytes_per_element == sum(x.nbytes for x in whole) // p.numel()
    assert info.uses_channel_dims == ("channel_dims" in optimizer.defaults)
    assert not set(info.slots) & set(info.optional_slots)
    assert set(info.slots) | set(info.optional_slots) == set(cls.slots)
