"""Example inputs: what is accepted, what is guessed, and what a failure tells."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autogroup
from autogroup.capture.guesses import Candidate
from autogroup.capture.inputs import as_call, describe, first_that_runs, guess_inputs, without_cache
from autogroup.errors import InputError


def shape_of(model: nn.Module) -> tuple[int, ...]:
    args, kwargs, _ = guess_inputs(model)
    assert not kwargs
    return tuple(args[0].shape)


# Given inputs.


def test_a_single_tensor_is_wrapped() -> None:
    x = torch.zeros(2)
    args, kwargs = as_call(x, None)
    assert args[0] is x
    assert kwargs == {}
    assert as_call(None, {"x": x}) == ((), {"x": x})
    assert as_call((x, 1), {}) == ((x, 1), {})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([torch.zeros(1)], None, r"args is of type list; .*write args=\(value,\)"),
        ({"x": 1}, None, "args is of type dict; .*pass it as kwargs"),
        (3, None, "args is of type int"),
        ((), [("x", 1)], "kwargs is of type list"),
        ((), {1: 2}, "key 1"),
    ],
)
def test_wrong_kinds_are_refused(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_call(args, kwargs)


def test_describe() -> None:
    text = describe((torch.zeros(2, 3),), {"ids": torch.zeros(4, dtype=torch.int64), "flag": True})
    assert text == "(2, 3) float32, ids=(4,) int64, flag=True"


class Caches(nn.Module):
    def forward(self, x: Tensor, use_cache: bool = True) -> Tensor:
        return x


def test_the_key_value_cache_is_switched_off_unless_asked_for() -> None:
    x = torch.zeros(1)
    kwargs, notes = without_cache(Caches(), (x,), {})
    assert kwargs == {"use_cache": False}
    assert len(notes) == 1
    assert without_cache(Caches(), (x,), {"use_cache": True}) == ({"use_cache": True}, ())
    assert without_cache(Caches(), (x, True), {}) == ({}, ())
    assert without_cache(nn.Linear(1, 1), (x,), {}) == ({}, ())


# Guesses from the first layer.


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(5, 8, 3), nn.BatchNorm2d(8)), (2, 5, 224, 224)),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)), (2, 1, 28, 28)),
        (nn.Conv1d(4, 8, 3), (2, 4, 1024)),
        (nn.Conv3d(3, 8, 3), (2, 3, 16, 112, 112)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (4, 784)),
        (nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2)), (2, 32)),
        (nn.LSTM(6, 8), (4, 8, 6)),
        (nn.TransformerEncoderLayer(16, 2), (2, 16, 16)),
        (nn.LayerNorm(12), (2, 32, 12)),
        (nn.BatchNorm1d(9), (4, 9)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_first_layer_tells_the_shape(model: nn.Module, shape: tuple[int, ...]) -> None:
    assert shape_of(model) == shape


def test_batch_norm_on_a_1x1_map_gets_at_least_two_samples() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8))
    assert shape_of(model)[0] >= 2


def test_every_required_argument_gets_a_tensor() -> None:
    args, _, description = guess_inputs(nn.TransformerDecoderLayer(16, 2, 16))
    assert [tuple(x.shape) for x in args] == [(2, 16, 16), (2, 16, 16)]
    assert description.startswith("guessed from the first layer, MultiheadAttention")


def test_a_module_of_bare_parameters() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    assert shape_of(Scale()) == (4, 5)


def test_inputs_have_the_dtype_of_the_parameters() -> None:
    (x,), _, _ = guess_inputs(nn.Linear(4, 2).bfloat16())
    assert x.dtype is torch.bfloat16


def test_ids_stay_below_the_vocabulary() -> None:
    (ids,), _, _ = guess_inputs(nn.Embedding(3, 4))
    assert ids.dtype is torch.int64
    assert set(ids.unique().tolist()) == {0, 1, 2}


def test_meta_models_and_value_dependent_models_can_be_guessed_for() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x[x.sum(-1) > 0])

    assert shape_of(nn.Linear(6, 2, device="meta")) == (4, 6)
    assert shape_of(Routed()) == (4, 6)


def test_guesses_are_deterministic_and_leave_random_states_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    before, python = torch.get_rng_state(), random.getstate()
    values = {name: t.clone() for name, t in model.state_dict().items()}
    (first,), _, _ = guess_inputs(model)
    torch.manual_seed(1)
    (second,), _, _ = guess_inputs(model)
    torch.set_rng_state(before)
    guess_inputs(model)
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    assert all(torch.equal(values[name], t) for name, t in model.state_dict().items())


# What a model says about itself comes first.


class Vision(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.fc = nn.Linear(4 * (side // 2) ** 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).flatten(1))


@pytest.mark.parametrize("config", [{"input_size": (3, 48, 48)}, SimpleNamespace(input_size=(3, 48, 48))])
def test_pretrained_cfg_tells_the_size(config: Any) -> None:
    model = Vision(48)
    model.pretrained_cfg = config
    args, _, description = guess_inputs(model)
    assert tuple(args[0].shape) == (2, 3, 48, 48)
    assert "pretrained_cfg" in description


def test_image_size_tells_the_size() -> None:
    model = Vision(20)
    model.image_size = 20
    assert shape_of(model) == (2, 3, 20, 20)


class Text(nn.Module):
    """Has what transformers models have."""

    main_input_name = "input_ids"

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=11, **config)
        self.embed = nn.Embedding(11, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, decoder_input_ids: Any = None) -> Tensor:
        if getattr(self.config, "is_encoder_decoder", False):
            assert decoder_input_ids is not None
        return self.embed(input_ids)


def test_the_config_of_a_text_model() -> None:
    args, kwargs, description = guess_inputs(Text(max_position_embeddings=8))
    assert args == ()
    assert tuple(kwargs["input_ids"].shape) == (2, 8)
    assert int(kwargs["input_ids"].max()) < 11
    assert set(kwargs) == {"input_ids"}
    assert "config of Text" in description


def test_encoder_decoder_models_get_decoder_ids() -> None:
    _, kwargs, _ = guess_inputs(Text(is_encoder_decoder=True))
    assert set(kwargs) == {"input_ids", "decoder_input_ids"}


def test_dummy_inputs_are_tried_after_the_config() -> None:
    class Picky(Text):
        dummy_inputs: Any = {"input_ids": torch.tensor([[1, 2, 3]])}  # noqa: RUF012

        def forward(self, input_ids: Tensor) -> Tensor:
            assert input_ids.shape[1] == 3
            return self.embed(input_ids)

    _, kwargs, description = guess_inputs(Picky())
    assert tuple(kwargs["input_ids"].shape) == (1, 3)
    assert "dummy_inputs" in description


# Failures.


def test_failure_lists_every_guess_with_its_reason() -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("needs two hands")

    with pytest.raises(InputError) as caught:
        guess_inputs(Refuses())
    text = str(caught.value)
    assert text.count("ValueError: needs two hands") == 3
    assert "(4, 3) float32" in text
    assert "args=(torch.randn" in text


def test_failure_without_anything_to_go_by() -> None:
    with pytest.raises(InputError, match="nothing in ReLU tells what it takes"):
        guess_inputs(nn.ReLU())


def test_first_that_runs_stops_at_the_first() -> None:
    tried: list[Candidate] = []

    def try_one(candidate: Candidate) -> None:
        tried.append(candidate)
        if len(tried) < 2:
            raise RuntimeError("no")

    assert first_that_runs(nn.Linear(3, 3), try_one) is tried[1]
    assert len(tried) == 2


class Gated(nn.Module):
    """The gate differs between examples; with one example it would look like a constant before the batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.bn = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x) + self.gate(x).mean((2, 3), keepdim=True))


def test_one_example_does_not_make_what_varies_between_examples_constant() -> None:
    report = autogroup.analyze(Gated(), torch.zeros(1, 3, 5, 5))
    assert report.parameters["conv.weight"].channel_dims is None
    assert autogroup.certify(Gated(), report, torch.zeros(4, 3, 5, 5)).ok
    assert "the batch of one example was doubled" in report.capture["notes"]


def test_a_first_axis_that_is_no_batch_is_left_alone() -> None:
    report = autogroup.analyze(nn.Sequential(nn.Conv1d(1, 4, 1, bias=False), nn.Flatten(0)), torch.zeros(1, 5))
    assert report.parameters["0.weight"].verdict == "variant"
    assert "the claims hold for a batch of one example" in report.capture["notes"]
