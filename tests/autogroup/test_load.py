"""Every kind of SOURCE: what it becomes, and the one error that a wrong one gets."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from autogroup.api import analyze
from autogroup.errors import LoadError, UntrustedError
from autogroup.load import Loaded, analyze_capture, load
from autogroup.readers import named
from autogroup.readers.checkpoint import read_checkpoint
from tests.autogroup.wrong_files import wrong_file

needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


class Tied(nn.Module):
    """Tied layers, an index buffer, a constant, several outputs of one operator, a symbolic size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True))
        self.again = self.mix[0]
        self.register_buffer("order", torch.arange(8).flip(0))
        self.table = torch.tensor([1.0, 2.0, 4.0, 8.0, 1.0, 2.0, 4.0, 8.0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        first, second = x.split(4, 1)
        x = torch.cat([second, first], 1).view(x.shape[0], -1)
        with torch.no_grad():
            size = self.again.weight.norm()
        x = self.again(self.mix(x)[:, self.order] / size) * self.table
        return x, x.max(1).values


class Masked(nn.Module):
    """Control flow wrappers: autocast, and an infinite constant in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            x = self.linear(x)
        return x.float().masked_fill(x > 0, -float("inf")).softmax(-1)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def save_exported(
    model: nn.Module, args: tuple[Tensor, ...], path: Path, **options: Any
) -> torch.export.ExportedProgram:
    program = torch.export.export(model, args, **options)
    torch.export.save(program, path)
    return program


def error_of(source: str | Path, *, trust: bool = False) -> str:
    """The message of the error, which must fit on one line."""
    with pytest.raises(LoadError) as caught:
        load(str(source), trust=trust)
    message = str(caught.value)
    assert "\n" not in message
    return message


def run(loaded: Loaded, program: torch.export.ExportedProgram, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Run a captured graph with the weights of the program it was read from."""
    capture = loaded.capture
    assert capture is not None
    fqns = {node: fqn for fqn, node in (*capture.parameters.items(), *capture.buffers.items())}
    given = iter(inputs)
    values = [
        program.state_dict[fqns[node]].clone() if node in fqns else next(given).clone()
        for node in capture.graph.nodes
        if node.op == "placeholder"
    ]
    outputs = fx.Interpreter(fx.GraphModule(dict(capture.constants), capture.graph)).run(*values)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


# --- exported programs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_an_exported_graph_computes_what_the_program_computes(tmp_path: Path, dynamic: bool) -> None:
    images = torch.randn(4, 3, 8, 8)
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=64)}} if dynamic else None
    program = save_exported(Tied().train(), (images,), tmp_path / "m.pt2", dynamic_shapes=shapes)
    loaded = load(str(tmp_path / "m.pt2"))
    expected = program.module()(images)
    for ours, theirs in zip(run(loaded, program, (images,)), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.model is None
    assert any("dynamic" in note for note in loaded.capture.notes) == dynamic


def test_wrappers_are_spliced_in_and_infinities_survive(tmp_path: Path) -> None:
    x = torch.randn(2, 4)
    program = save_exported(Masked(), (x,), tmp_path / "m.pt2")
    loaded = load(str(tmp_path / "m.pt2"))
    # The wrapper is gone, so autocast does not round here; the recorded dtypes keep what it did.
    torch.testing.assert_close(run(loaded, program, (x,))[0], program.module()(x), atol=1e-2, rtol=0)
    targets = [str(node.target) for node in loaded.capture.graph.nodes if node.op == "call_function"]
    assert "aten.linear.default" in targets
    linear = next(node for node in loaded.capture.graph.nodes if str(node.target) == "aten.linear.default")
    assert linear.meta["val"].dtype == torch.bfloat16
    assert not [target for target in targets if "higher_order" in target or "wrap" in target]


def test_the_capture_of_an_exported_program_is_complete(tmp_path: Path) -> None:
    model = Tied().train()
    model.norm.bias.requires_grad_(False)
    save_exported(model, (torch.randn(2, 3, 8, 8),), tmp_path / "m.pt2")
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    assert list(capture.parameters) == [name for name, _ in model.named_parameters()]
    assert capture.aliases == {"mix.0.weight": ("again.weight",), "mix.0.bias": ("again.bias",)}
    assert capture.trainable == {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(capture.buffers) == {name for name, _ in model.named_buffers()}
    assert [tuple(node.meta["val"].shape) for node in capture.inputs] == [(2, 3, 8, 8)]
    assert [value.tolist() for value in capture.constants.values()] == [model.table.tolist()]
    assert (capture.method, capture.mode) == ("export", "train")
    calls = {str(node.target): node.meta for node in capture.graph.nodes if node.op == "call_function"}
    assert calls["aten.batch_norm.default"]["module"] == "norm"
    assert calls["aten.mean.dim"]["module"] == ""
    assert calls["aten.mean.dim"]["source"].startswith("test_load.py:")
    assert tuple(calls["aten.conv2d.default"]["val"].shape) == (2, 8, 8, 8)
    assert all("val" in node.meta for node in capture.graph.nodes if node.op != "output")


def test_evaluation_mode_is_told(tmp_path: Path) -> None:
    save_exported(Tied().eval(), (torch.randn(2, 3, 8, 8),), tmp_path / "m.pt2")
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    assert capture.mode == "eval"
    assert any("evaluation mode" in note for note in capture.notes)


@pytest.mark.parametrize("strict", [False, True])
def test_the_analysis_of_the_file_is_that_of_the_model(tmp_path: Path, strict: bool) -> None:
    model, x = Tied().train(), torch.randn(2, 3, 8, 8)
    save_exported(model, (x,), tmp_path / "m.pt2", strict=strict)
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    from_file, from_model = analyze_capture(capture), analyze(model, (x,))
    assert list(from_file.parameters) == list(from_model.parameters)
    for name, expected in from_model.parameters.items():
        found = from_file.parameters[name]
        assert (found.verdict, found.partition, found.norms) == (expected.verdict, expected.partition, expected.norms)
        assert (found.role, found.aliases, found.trainable) == (expected.role, expected.aliases, expected.trainable)
    assert from_model.parameters["conv.weight"].verdict == "invariant"
    assert from_file.capture["method"] == "export"


def rewrite(source: Path, target: Path, change: Any) -> None:
    """Copy an archive, passing each member through ``change(name, content) -> content | None``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    save_exported(Masked(), (torch.randn(2, 4),), tmp_path / "good.pt2")
    return tmp_path / "good.pt2"


def test_reading_an_exported_program_runs_nothing_of_it(exported: Path, tmp_path: Path) -> None:
    trap = tmp_path / "made_by_the_file"
    poison = pickle.dumps(Trap(trap))
    code = f"__import__('os').mkdir({str(trap)!r})"
    size = {"as_expr": {"expr_str": code, "hint": {"as_int": 3}}}

    def plant(name: str, content: bytes) -> bytes:
        if name.endswith(".pt") or "/weight_" in name:
            return poison
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        module = program["graph_module"]
        module["graph"]["sym_int_values"]["planted"] = size
        module["graph"]["tensor_values"]["x"]["sizes"][0] = size
        program["guards_code"] = [code]
        for entry in module["module_call_graph"]:
            if entry.get("signature"):
                entry["signature"]["in_spec"] = f'[1, {{"type": "{code}", "context": "null", "children_spec": []}}]'
        text = json.dumps(program).replace('"softmax"', json.dumps(f"softmax\n{code}"))
        return text.replace("torch.ops.aten.masked_fill.Scalar", "torch.os.system").encode()

    rewrite(exported, tmp_path / "evil.pt2", plant)
    loaded = load(str(tmp_path / "evil.pt2"))
    assert loaded.capture is not None
    assert not trap.exists()
    assert [tuple(node.meta["val"].shape) for node in loaded.capture.inputs] == [(3, 4)]
    targets = [node.target for node in loaded.capture.graph.nodes if node.op == "call_function"]
    assert os.system not in targets
    assert all(node.name.isidentifier() for node in loaded.capture.graph.nodes)
    # The trap works: torch's own reader would have sprung it.
    pickle.loads(poison)
    assert trap.exists()


def test_an_operator_that_is_not_installed_stays_in_the_graph_by_name(exported: Path, tmp_path: Path) -> None:
    rewrite(
        exported,
        tmp_path / "m.pt2",
        lambda n, c: c.replace(b"torch.ops.aten.softmax.int", b"torch.ops.mylib.spin.default"),
    )
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    missing = [
        node.target for node in capture.graph.nodes if getattr(node.target, "__name__", "") == "mylib.spin.default"
    ]
    assert len(missing) == 1


DAMAGED = {
    "another schema": (lambda n, c: c.replace(b'"major": 8', b'"major": 99'), "export schema 99"),
    "no program": (lambda n, c: None if "models/" in n else c, "no exported program"),
    "no JSON": (lambda n, c: b"{" if "models/" in n else c, "damaged"),
    "not an object": (lambda n, c: b"[]" if "models/" in n else c, "not an exported program"),
    "missing part": (lambda n, c: c.replace(b'"input_specs"', b'"renamed"') if "models/" in n else c, "damaged"),
    "unknown argument": (lambda n, c: c.replace(b'"name": "weight"', b'"name": "waits"'), "no argument named waits"),
    "unbacked size": (
        lambda n, c: c.replace(b'"sizes": [{"as_int": 2}', b'"sizes": [{"as_expr": {"expr_str": "u0"}}'),
        "depends on data",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_program_is_one_clear_error(exported: Path, tmp_path: Path, case: str) -> None:
    change, expected = DAMAGED[case]
    rewrite(exported, tmp_path / "bad.pt2", change)
    message = error_of(tmp_path / "bad.pt2")
    assert expected in message
    assert "bad.pt2" in message


# --- pickles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickled_module_needs_trust(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Sequential(nn.Linear(3, 2)), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UntrustedError) as caught:
        load(str(path))
    assert "torch.nn.modules.linear.Linear" in str(caught.value)
    assert "--trust" in str(caught.value)
    model = load(str(path), trust=True).model
    assert isinstance(model, nn.Sequential)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("container", ["zip", "legacy", "plain"])
def test_nothing_of_a_pickle_runs_without_trust(tmp_path: Path, protocol: int, container: str) -> None:
    trap, path = tmp_path / "made_by_the_file", tmp_path / "model.pt"
    evil = {"a": torch.zeros(1), "b": Trap(trap), "c": Trap(trap)}
    if container == "plain":
        path.write_bytes(pickle.dumps(Trap(trap), protocol=protocol))
    else:
        torch.save(evil, path, pickle_protocol=protocol, _use_new_zipfile_serialization=container == "zip")
    assert f"{os.mkdir.__module__}.mkdir" in read_checkpoint(path).code
    if container == "plain":
        with pytest.raises(UntrustedError, match="mkdir"):
            load(str(path))
    else:  # tensors, and beside them what would run code: the tensors can be had without it
        (table,) = load(str(path)).content.tables
        assert [tensor.name for tensor in table.tensors] == ["a"]
        assert any("mkdir" in note for note in table.notes)
    assert not trap.exists()
    with pytest.raises(LoadError):
        load(str(path), trust=True)
    assert trap.exists(), "the trap must work, or the test shows nothing"


def test_a_name_hidden_from_the_lister_is_still_refused(tmp_path: Path) -> None:
    # STACK_GLOBAL on strings that another opcode assembled: static reading cannot name it.
    trap = tmp_path / "made_by_the_file"
    path = tmp_path / "model.pt"
    argument = str(trap).encode()
    hidden = b"\x80\x04" + b"\x8c\x05posix" + b"\x94\x8c\x05mkdir\x94" + b"0" + b"h\x01\x93"
    path.write_bytes(hidden + b"X" + len(argument).to_bytes(4, "little") + argument + b"\x85R.")
    with pytest.raises(UntrustedError):
        load(str(path))
    assert not trap.exists()


def test_a_file_with_another_object_is_named(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    assert "holds a list" in error_of(tmp_path / "list.pt")


# --- files that are something else ------------------------------------------------------------------------------


WRONG = {
    "missing": "no such file",
    "directory": "without the .metadata",
    "empty": "is empty",
    "text": "neither a torch file nor a zip archive",
    "zip of something": "notes.txt",
    "truncated": "truncated or damaged",
    "truncated pickle": "wrong.pt2",
    "torchscript": "damaged",
    "header longer than the file": "announces a header",
    "header too large": "more than the 100,000,000",
    "deep JSON": "nested too deeply",
    "deep report": "nested too deeply",
    "shard elsewhere": "must lie beside",
    "zip bomb": "bytes, more than",
    "other JSON": "neither a report nor an index",
    "python": "model.py:callable",
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    message = error_of(wrong_file(kind, tmp_path))
    assert WRONG[kind] in message
    assert not message.startswith("[Errno")


def test_a_truncated_export_is_one_clear_error(tmp_path: Path, exported: Path) -> None:
    path = tmp_path / "wrong.pt2"
    path.write_bytes(exported.read_bytes()[:2000])
    assert "truncated or damaged" in error_of(path)


# --- the user's own code ----------------------------------------------------------------------------------------

CODE = """
import helper_beside_it
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(helper_beside_it.SIZE, 2)

instance = Net()
number = 3

def build():
    return Net()

def with_tensor():
    return Net(), torch.zeros(2, 5)

def with_kwargs():
    return Net(), (), {"input": torch.zeros(2, 5)}

def with_dict():
    return Net(), {"input": torch.zeros(2, 5)}

def wrong():
    return [Net()]

def fails():
    raise ZeroDivisionError("on purpose")

def leaves():
    raise SystemExit(7)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "helper_beside_it.py").write_text("SIZE = 5\n")
    (tmp_path / "mymodels_for_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "mymodels_for_test.py"
    for name in ("helper_beside_it", "mymodels_for_test", "_autogroup_source_mymodels_for_test"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["Net", "instance", "build", "with_tensor", "with_kwargs", "with_dict"])
@pytest.mark.parametrize("by_file", [True, False], ids=["file", "module"])
def test_own_code(code: Path, by_file: bool, name: str) -> None:
    before = list(sys.path)
    loaded = load(f"{code if by_file else code.stem}:{name}")
    assert loaded.model is not None
    assert type(loaded.model).__name__ == "Net"
    args, kwargs = loaded.content.args, loaded.content.kwargs
    if name == "with_tensor":
        assert args[0].shape == (2, 5)
    elif name in ("with_kwargs", "with_dict"):
        assert args == ()
        assert kwargs["input"].shape == (2, 5)
    else:
        assert (args, kwargs) == (None, None)
    assert sys.path == before


def test_a_trusted_pickle_finds_the_modules_beside_it(code: Path, tmp_path: Path) -> None:
    torch.save(load(f"{code.stem}:build").model, tmp_path / "net.pt")
    for name in ("helper_beside_it", code.stem):
        sys.modules.pop(name)
    with pytest.raises(UntrustedError, match="imports mymodels_for_test"):
        load(str(tmp_path / "net.pt"))
    assert code.stem not in sys.modules
    assert type(load(str(tmp_path / "net.pt"), trust=True).model).__name__ == "Net"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mymodels_for_test.py:biuld", "close matches: build"),
        ("mymodels_for_test.py:number", "is a int"),
        ("mymodels_for_test.py:wrong", "returned a list"),
        ("mymodels_for_test.py:fails", "ZeroDivisionError: on purpose (mymodels_for_test.py:"),
        ("mymodels_for_test.py:leaves", "SystemExit: 7"),
        ("mymodels_for_test:biuld", "close matches: build"),
        ("no_such_package_here.models:build", "no module named 'no_such_package_here'"),
        ("mymodels_for_test.no_such_part:build", "mymodels_for_test.no_such_part"),
        ("absent.py:build", "no such file"),
        ("torch.nn:Linear", "missing 2 required positional arguments"),
        ("", "SOURCE is empty"),
        (":", "no such file"),
    ],
)
def test_own_code_that_is_wrong(code: Path, source: str, expected: str) -> None:
    assert expected in error_of(source)


def test_code_with_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def build(:\n")
    assert "SyntaxError" in error_of(f"{tmp_path / 'broken.py'}:build")


# --- model libraries --------------------------------------------------------------------------------------------


@pytest.mark.zoo
@needs_torchvision
@pytest.mark.parametrize("name", ["resnet18", "googlenet", "swin_t", "fcn_resnet50"])
def test_torchvision_models_need_no_memory_for_parameters(name: str) -> None:
    model = load(f"torchvision:{name}").model
    assert model is not None
    assert all(p.is_meta for p in model.parameters())
    assert not any(b.is_meta for b in model.buffers())


@pytest.mark.zoo
@needs_timm
def test_timm_models() -> None:
    model = load("timm:resnet10t").model
    assert model is not None
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.zoo
@needs_transformers
@pytest.mark.parametrize("by_folder", [True, False], ids=["folder", "file"])
def test_transformers_models_from_a_local_configuration(tmp_path: Path, by_folder: bool) -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 8, "n_head": 2}
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 11}))
    model = load(f"hf:{tmp_path if by_folder else tmp_path / 'config.json'}").model
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.lm_head.weight is model.transformer.wte.weight


@pytest.mark.zoo
@needs_transformers
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not a configuration"),
        ('{"model_type": "no_such_type"}', "not a configuration"),
        ('{"model_type": "gpt2", "architectures": ["NoSuchModel"]}', "no architecture NoSuchModel"),
        ('{"model_type": "gpt2", "architectures": ["pipeline"]}', "no architecture pipeline"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert expected in error_of(f"hf:{tmp_path}")


def test_a_missing_configuration_is_not_downloaded(tmp_path: Path) -> None:
    assert "nothing is downloaded" in error_of(f"hf:{tmp_path / 'absent'}")
    assert "nothing is downloaded" in error_of(f"hf:{tmp_path}")


@pytest.mark.zoo
@needs_torchvision
def test_an_unknown_name_lists_close_ones() -> None:
    message = error_of("torchvision:resnet81")
    assert "no model 'resnet81'" in message
    assert "resnet18" in message


def test_a_library_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(named.importlib, "import_module", absent)
    assert error_of("torchvision:resnet18") == "torchvision is not installed: pip install torchvision"
    assert error_of("timm:resnet10t") == "timm is not installed: pip install timm"


def test_parameters_on_meta_keeps_ties_and_puts_back() -> None:
    before = nn.Module.register_parameter
    with named.parameters_on_meta():
        linear = nn.Linear(3, 3)
        other = nn.Linear(3, 3)
        other.weight = linear.weight
        frozen = nn.Module()
        shared = nn.Parameter(torch.zeros(2), requires_grad=False)
        frozen.register_parameter("p", shared)
        frozen.register_parameter("q", shared)
    assert nn.Module.register_parameter is before
    assert linear.weight.is_meta
    assert other.weight is linear.weight
    assert not frozen.p.requires_grad
    assert frozen.p.is_meta
    assert frozen.q is frozen.p
    assert not nn.Linear(1, 1).weight.is_meta


def test_a_constructor_that_needs_values_is_built_with_values() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.total = self.weight.sum().item()

    model = named._build("test:picky", Picky)
    assert model.total == 2
    with pytest.raises(LoadError, match="test:bad cannot be built: ValueError: no"):
        named._build("test:bad", lambda: (_ for _ in ()).throw(ValueError("no")))


def test_the_label_is_the_source(exported: Path) -> None:
    shutil.copy(exported, exported.with_name("copy.bin"))
    assert load(str(exported.with_name("copy.bin"))).label.endswith("copy.bin")
