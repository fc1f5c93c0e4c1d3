"""capture(): the graph it gives, the names on it, the wrappers it sees through, and what it leaves behind: nothing."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from autogroup.capture import Capture, capture
from autogroup.capture.unwrap import clean_fqn, unwrap
from autogroup.errors import CaptureError

IMAGE = torch.zeros(2, 3, 8, 8)


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def calls(captured: Capture) -> list[fx.Node]:
    return [node for node in captured.graph.nodes if node.op == "call_function"]


def operators(captured: Capture) -> list[str]:
    return [str(node.target) for node in calls(captured)]


SMALL_OPERATORS = [
    "aten.conv2d.default",
    "aten.batch_norm.default",
    "aten.relu.default",
    "aten.flatten.using_ints",
    "aten.linear.default",
]
SMALL_PARAMETERS = ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]


# What the graph holds.


def test_graph_of_a_small_net() -> None:
    captured = capture(small_net(), (IMAGE,), {})
    assert operators(captured) == SMALL_OPERATORS
    assert list(captured.parameters) == SMALL_PARAMETERS
    assert list(captured.buffers) == ["1.running_mean", "1.running_var", "1.num_batches_tracked"]
    assert len(captured.inputs) == 1
    assert captured.trainable == frozenset(SMALL_PARAMETERS)
    assert (captured.method, captured.mode, captured.notes) == ("make_fx", "train", ())
    captured.graph.lint()


def test_every_node_says_what_and_where_it_is() -> None:
    captured = capture(small_net(), (IMAGE,), {})
    assert [node.meta["module"] for node in calls(captured)] == ["0", "1", "2", "3", "4"]
    for node in captured.graph.nodes:
        if node.op != "output":
            assert isinstance(node.meta["val"], FakeTensor)
    assert tuple(captured.parameters["0.weight"].meta["val"].shape) == (8, 3, 3, 3)
    # Only torch's own layers run here, so their files are the best there is.
    assert calls(captured)[0].meta["source"].startswith("torch/nn/modules/conv.py:")


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(x)


def test_source_is_the_line_of_model_code() -> None:
    captured = capture(nn.Sequential(Residual()), (torch.zeros(2, 4),), {})
    line = Residual.forward.__code__.co_firstlineno + 1
    linear, add = calls(captured)
    assert [node.meta["module"] for node in (linear, add)] == ["0.fc", "0"]
    for node in (linear, add):
        path, _, number = node.meta["source"].rpartition(":")
        assert int(number) == line
        assert Path(path).name == Path(__file__).name
        assert not Path(path).is_absolute()


def test_dropout_and_random_operators_trace() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x + torch.randn_like(x) + torch.rand(4), 0.1, self.training)

    assert "aten.dropout.default" in operators(capture(Noisy(), (torch.zeros(2, 4),), {}))


def test_eval_mode_switches_batch_norm() -> None:
    for mode, training in (("train", True), ("eval", False)):
        captured = capture(small_net(), (IMAGE,), {}, mode=mode)
        norm = next(node for node in calls(captured) if "batch_norm" in str(node.target))
        assert norm.args[5] is training
        assert captured.mode == mode


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(CaptureError, match="'test'"):
        capture(small_net(), (IMAGE,), {}, mode="test")


def test_layers_frozen_by_hand_stay_so_and_are_noted() -> None:
    model = small_net()
    model[1].eval()
    captured = capture(model, (IMAGE,), {})
    assert next(node for node in calls(captured) if "batch_norm" in str(node.target)).args[5] is False
    assert captured.notes == ("not in train mode, and left so: 1",)
    model.eval()
    assert capture(model, (IMAGE,), {}).notes == ()


def test_autocast_checkpoint_and_no_grad_trace() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                x = self.a(x)
            with torch.no_grad():
                scale = self.b.weight.norm()
            x = checkpoint(self.b, x.float(), use_reentrant=False)
            return checkpoint(self.c, x, use_reentrant=True) / scale

    captured = capture(Mixed(), (torch.zeros(2, 4),), {})
    assert operators(captured).count("aten.linear.default") == 3
    assert captured.method == "make_fx"


def test_constants_are_kept() -> None:
    class WithTable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = [torch.arange(4.0)]

        def forward(self, x: Tensor) -> Tensor:
            return x * self.table[0]

    model = WithTable()
    captured = capture(model, (torch.zeros(2, 4),), {})
    (constant,) = captured.constants.values()
    assert constant is model.table[0]
    (node,) = [node for node in captured.graph.nodes if node.op == "get_attr"]
    assert node.target in captured.constants


# In-place operators.


class WritesThroughView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(6))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        bias = self.bias.clone()
        bias[2:4].zero_()
        out = torch.zeros(2, 6)
        out[:, 1:].copy_(x[:, 1:] * bias[1:])
        unused = x.clone()
        unused.mul_(2)
        return out


def test_writes_to_memory_that_is_read_survive() -> None:
    found = operators(capture(WritesThroughView(), (torch.zeros(2, 6),), {}))
    assert found.count("aten.zero_.default") == 1
    assert found.count("aten.copy_.default") == 1


def test_writes_that_nobody_reads_go() -> None:
    found = operators(capture(WritesThroughView(), (torch.zeros(2, 6),), {}))
    assert "aten.add_.Tensor" not in found
    assert "aten.mul_.Tensor" not in found


def test_reads_that_nobody_uses_go() -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.view(-1)[0]
            x.exp()
            return x * 2

    assert operators(capture(Looks(), (torch.zeros(2, 6),), {})) == ["aten.mul.Tensor"]


def test_a_buffer_written_and_then_read_keeps_the_write() -> None:
    class Counts(WritesThroughView):
        def forward(self, x: Tensor) -> Tensor:
            self.count.add_(1)
            return x / self.count

    assert operators(capture(Counts(), (torch.zeros(2, 6),), {})) == ["aten.add_.Tensor", "aten.div.Tensor"]


# Inputs and outputs.


@dataclass
class Result:
    logits: Tensor
    extra: dict[str, Any]


class Holder:
    def __init__(self, value: Tensor) -> None:
        self.value = value


class ManyKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, batch: dict[str, Any], *, scale: float, mask: Tensor | None = None) -> Any:
        x = self.fc(batch["x"][0]) * scale
        if mask is not None:
            x = x * mask
        return Result(x, {"list": [x + 1, None, "text"], "object": Holder(x + 2), "same": x})


def test_nested_inputs_and_any_kind_of_output() -> None:
    batch = {"x": [torch.zeros(2, 4), None], "name": "a"}
    captured = capture(ManyKinds(), (batch,), {"scale": 2.0, "mask": torch.zeros(2, 4)})
    (output,) = [node for node in captured.graph.nodes if node.op == "output"]
    assert len(output.all_input_nodes) == 3
    assert len(captured.inputs) == 2


def test_a_dataclass_input() -> None:
    class Reads(nn.Module):
        def forward(self, x: Result) -> Tensor:
            return x.logits + x.extra["more"]

    given = Result(torch.zeros(2), {"more": torch.zeros(2)})
    captured = capture(Reads(), (given,), {})
    assert len(captured.inputs) == 2
    assert operators(captured) == ["aten.add.Tensor"]
    assert type(given.logits) is Tensor


def test_a_forward_without_tensors_is_refused() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    with pytest.raises(CaptureError, match="Silent returned no tensor"):
        capture(Silent(), (torch.zeros(1),), {})


# Parameters.


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.again = self.head

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids))


def test_a_tied_parameter_is_one_placeholder_under_its_first_name() -> None:
    captured = capture(Tied(), (torch.zeros(2, 3, dtype=torch.int64),), {})
    assert list(captured.parameters) == ["embed.weight"]
    assert captured.aliases == {"embed.weight": ("head.weight", "again.weight")}
    assert len(captured.parameters["embed.weight"].users) == 2


@pytest.mark.parametrize(
    ("parametrize", "names"),
    [
        (
            nn.utils.parametrizations.weight_norm,
            {"bias", "parametrizations.weight.original0", "parametrizations.weight.original1"},
        ),
        (nn.utils.parametrizations.spectral_norm, {"bias", "parametrizations.weight.original"}),
    ],
)
def test_parametrizations(parametrize: Any, names: set[str]) -> None:
    model = parametrize(nn.Linear(4, 4))
    captured = capture(model, (torch.zeros(2, 4),), {})
    assert set(captured.parameters) == names
    assert operators(captured)[-1] == "aten.linear.default"


def test_frozen_parameters_are_captured_but_not_trainable() -> None:
    model = small_net()
    model[0].requires_grad_(False)
    captured = capture(model, (IMAGE,), {})
    assert list(captured.parameters) == SMALL_PARAMETERS
    assert captured.trainable == frozenset(SMALL_PARAMETERS[2:])


def test_a_meta_model_takes_cpu_inputs() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 100_000), nn.LayerNorm(100_000), nn.Linear(100_000, 50_000))
    captured = capture(model, (torch.zeros(2, 4),), {})
    assert captured.method == "make_fx"
    assert captured.parameters["2.weight"].meta["val"].device.type == "cpu"
    assert model[2].weight.device.type == "meta"


def test_a_lazy_module_is_refused_by_name() -> None:
    with pytest.raises(CaptureError, match=r"'0.weight'.*run one forward pass"):
        capture(nn.Sequential(nn.LazyLinear(3)), (torch.zeros(2, 4),), {})


# Wrappers.


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def assert_captured_bare(model: nn.Module) -> None:
    captured = capture(model, (IMAGE,), {})
    assert list(captured.parameters) == SMALL_PARAMETERS
    assert operators(captured) == SMALL_OPERATORS
    assert [node.meta["module"] for node in calls(captured)] == ["0", "1", "2", "3", "4"]
    assert tuple(captured.parameters["0.weight"].meta["val"].shape) == (8, 3, 3, 3)


def test_compiled_models_and_parts() -> None:
    assert_captured_bare(torch.compile(small_net(), backend="eager"))
    in_place = small_net()
    in_place.compile(backend="eager")
    assert_captured_bare(in_place)
    assert in_place._compiled_call_impl is not None
    part = small_net()
    part[0] = torch.compile(part[0], backend="eager")
    assert_captured_bare(part)


def test_checkpoint_wrapper() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = small_net()
    model[4] = checkpoint_wrapper(model[4])
    assert_captured_bare(model)


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:.*hostname of the client socket.*")
def test_ddp() -> None:
    model = nn.parallel.DistributedDataParallel(small_net())
    assert unwrap(torch.compile(model, backend="eager")) is model.module
    assert_captured_bare(model)


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:.*hostname of the client socket.*")
def test_fully_shard() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    mesh = init_device_mesh("cpu", (1,))
    model = small_net()
    fully_shard(model[0], mesh=mesh)
    fully_shard([model[1], model[4]], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert_captured_bare(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()  # its hooks are back
    assert_captured_bare(model)


def test_clean_fqn() -> None:
    assert clean_fqn("_orig_mod.a._fsdp_wrapped_module.b._checkpoint_wrapped_module.weight") == "a.b.weight"
    assert clean_fqn("module.weight") == "module.weight"


# Models whose forward needs values.


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y * 2 if x.sum() > 0 else y.relu()


def test_a_branch_on_values_is_taken_as_for_the_real_inputs() -> None:
    for x, last in ((torch.ones(2, 4), "aten.mul.Tensor"), (-torch.ones(2, 4), "aten.relu.default")):
        captured = capture(Branches(), (x,), {})
        assert captured.method == "concrete"
        assert operators(captured)[-1] == last
        assert any("real tensors" in note for note in captured.notes)
        # The read of a value stays visible, and all values belong to one fake mode.
        assert "aten.item.default" in operators(captured)
        tensors = [n.meta["val"] for n in captured.graph.nodes if isinstance(n.meta.get("val"), Tensor)]
        assert len({id(t.fake_mode) for t in tensors}) == 1
        assert all(node.meta["source"] for node in calls(captured))


class Selects(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x[x.sum(1) > 0]).mean()


def test_boolean_indexing_works_without_values_too() -> None:
    assert capture(Selects(), (torch.ones(2, 4),), {}).method == "concrete"
    captured = capture(Selects().to("meta"), (torch.ones(2, 4),), {})
    assert captured.method == "symbolic"
    assert operators(captured)[-2:] == ["aten.linear.default", "aten.mean.default"]


class SkipsLayers(Branches):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(8):
            if torch.rand([]) < 0.5:
                continue
            x = self.fc(x)
        return x


def test_no_layer_is_skipped_at_random() -> None:
    captured = capture(SkipsLayers(), (torch.ones(2, 4),), {})
    assert captured.method == "make_fx"
    assert operators(captured).count("aten.linear.default") == 8
    assert any("skip" in note for note in captured.notes)


def test_failure_says_what_where_and_what_to_do() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(nn.Sequential(Branches()).to("meta"), (torch.zeros(2, 4),), {})
    text = str(caught.value)
    line = Branches.forward.__code__.co_firstlineno + 2
    assert "DataDependentOutputException" in text
    assert f"module '0' at {Path(__file__).name}" in text.replace("tests/autogroup/", "")
    assert f"{Path(__file__).name}:{line}" in text
    assert "on the meta device" in text
    assert "what to do" in text


def test_wrong_shapes_name_the_module_and_log_nothing() -> None:
    records: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("torch._subclasses.fake_tensor"), logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        with pytest.raises(CaptureError, match=r"module '4'"):
            capture(small_net(), (torch.zeros(2, 3, 9, 9),), {})
    finally:
        logger.removeHandler(handler)
    assert records == []
    assert not logger.disabled


# The model comes back as it was.


@functools.cache
def position_table(length: int) -> Tensor:
    return torch.arange(float(length))


class Stateful(nn.Module):
    """Does everything to itself that a forward may do."""

    shared: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.old_style = nn.utils.parametrizations.spectral_norm(nn.Linear(36, 4))
        self.drop = nn.Dropout(0.5)
        self.cache: dict[str, Any] = {"old": 1, "nested": {"list": [1]}}
        self.seen: list[Any] = []
        self.kept = torch.ones(2)
        self.drop.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        self.attention = x
        self.kept = x
        self.cache["new"] = x
        self.cache["nested"]["list"].append(x)
        self.seen.append(x)
        self.norm.momentum = 0.5
        self.running = nn.Parameter(torch.zeros(1))
        self.register_buffer("late", torch.zeros(1))
        self.norm.running_mean = torch.zeros(8)
        noise = torch.rand(1) + random.random() + float(np.random.rand())
        return self.old_style(self.drop(x.flatten(2))) + noise + position_table(4)


def state_of(model: nn.Module) -> list[Any]:
    """Identities of everything reachable from the modules, in order, three containers deep."""

    def walk(value: Any, depth: int) -> Any:
        if isinstance(value, dict) and depth:
            return id(value), [(key, walk(item, depth - 1)) for key, item in value.items()]
        if isinstance(value, list | set) and depth:
            return id(value), [walk(item, depth - 1) for item in value]
        return id(value)

    return [(name, walk(vars(module), 4)) for name, module in model.named_modules()]


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_the_random_states_are_untouched(fail: bool, training: bool) -> None:
    model = Stateful().train(training)
    model.conv.bias.requires_grad_(False)
    model.norm.weight.grad = torch.ones(8)
    calls_of_hook: list[int] = []
    model.conv.register_forward_hook(lambda *_: calls_of_hook.append(1))
    before = state_of(model)
    grads = {name: p.grad for name, p in model.named_parameters()}
    values = {name: t.clone() for name, t in model.state_dict().items()}
    flags = [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()]
    torch_state, python_state, numpy_state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    x = torch.zeros(2, 3, 7 if fail else 8, 8)
    if fail:
        with pytest.raises(CaptureError):
            capture(model, (x,), {})
    else:
        capture(model, (x,), {})
    assert state_of(model) == before
    assert all(grads[name] is p.grad for name, p in model.named_parameters())
    assert all(torch.equal(values[name], t) for name, t in model.state_dict().items())
    assert [(m.training, [p.requires_grad for p in m.parameters()]) for m in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))
    assert calls_of_hook, "the model's own hooks run during the trace"
    assert torch.is_grad_enabled()


def test_function_caches_keep_no_fake_tensor() -> None:
    capture(Stateful(), (torch.zeros(2, 3, 8, 8),), {})
    assert type(position_table(4)) is Tensor


def test_concrete_runs_leave_the_values_alone() -> None:
    class Updates(Branches):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.fc.weight.mul_(0.5)
                x.add_(1)
            return super().forward(self.norm(x))

    model, x = Updates(), torch.randn(3, 4)
    values = {name: t.clone() for name, t in model.state_dict().items()}
    kept = x.clone()
    assert capture(model, (x,), {}).method == "concrete"
    assert torch.equal(x, kept)
    assert all(torch.equal(values[name], t) for name, t in model.state_dict().items())


class Gradients(nn.Module):
    """Differentiates in its forward, as energy models do."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(x.square().sum(), x, create_graph=True)
        return gradient


def test_capture_inside_no_grad_and_inference_mode() -> None:
    expected = operators(capture(Branches(), (torch.ones(2, 4),), {}))
    with torch.no_grad():
        assert operators(capture(Branches(), (torch.ones(2, 4),), {})) == expected
    expected = operators(capture(Gradients(), (IMAGE,), {}))
    with torch.inference_mode():
        assert operators(capture(Gradients(), (IMAGE,), {})) == expected
        assert torch.is_inference_mode_enabled()


def test_the_same_model_gives_the_same_graph() -> None:
    model = Stateful()
    first, second = (operators(capture(model, (torch.zeros(2, 3, 8, 8),), {})) for _ in range(2))
    assert first == second


def test_an_error_in_a_plain_torch_model_names_no_line_of_this_package() -> None:
    with pytest.raises(CaptureError, match="module '0'") as raised:
        capture(nn.Sequential(nn.Conv2d(3, 4, 3)), (torch.zeros(2, 5, 8, 8),), {})
    where = next(line for line in str(raised.value).splitlines() if "where:" in line)
    assert "autogroup" not in where
