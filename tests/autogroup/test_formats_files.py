"""What is read of each kind of file, what is said about it, and that nothing in it can run or fill the memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autogroup import api, cli
from autogroup.errors import AutogroupError, CaptureError, InputError, LoadError, UntrustedError
from autogroup.load import LoadedTensors, analyze_capture, load
from autogroup.readers.pickles import PickleError, read_pickle
from autogroup.tensors import TensorTable
from tests.autogroup import twins
from tests.autogroup.test_formats import save_exported, save_scripted, save_state_dict, save_tensors, save_traced

CNN = "tests.autogroup.twins:cnn"


def table_of(path: Path) -> TensorTable:
    content = load(str(path)).content
    assert isinstance(content, LoadedTensors)
    return content.tables[0]


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Copy an archive; members for which ``change`` returns ``None`` are dropped."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- exported programs ------------------------------------------------------------------------------------------


def test_an_export_without_its_weights_gives_the_same_report(tmp_path: Path) -> None:
    save_exported(*twins.vit(), tmp_path / "full.pt2")
    rewrite(tmp_path / "full.pt2", tmp_path / "bare.pt2", lambda n, c: None if re.search(r"/weight_\d+$", n) else c)
    full, bare = (load(str(tmp_path / name)).capture for name in ("full.pt2", "bare.pt2"))
    assert (tmp_path / "bare.pt2").stat().st_size < (tmp_path / "full.pt2").stat().st_size
    assert full is not None and bare is not None
    assert analyze_capture(bare) == analyze_capture(full)


def test_the_mode_of_an_export_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = twins.cnn()
    save_exported(model.eval(), inputs, tmp_path / "m.pt2")
    as_training = json.loads(run(capsys, "inspect", tmp_path / "m.pt2", "--format", "json")[1])
    as_it_is = json.loads(run(capsys, "inspect", tmp_path / "m.pt2", "--format", "json", "--mode", "eval")[1])
    verdicts = [{p["name"]: p["verdict"] for p in r["parameters"]}["stem.weight"] for r in (as_training, as_it_is)]
    assert verdicts == ["invariant", "variant"]
    assert any("analyzed as in training" in note for note in as_training["capture"]["notes"])
    assert not any("analyzed as in training" in note for note in as_it_is["capture"]["notes"])


def test_a_frozen_norm_in_an_export_of_training_stays_frozen(tmp_path: Path) -> None:
    model, inputs = twins.cnn()
    model.train()
    model.norm.eval()
    save_exported(model, inputs, tmp_path / "m.pt2")
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    report = analyze_capture(capture)
    assert capture.mode == "train"
    assert report.parameters["stem.weight"].verdict == "variant"
    assert report.parameters["blocks.0.conv1.weight"].verdict == "invariant"
    assert any("some norms were exported in evaluation mode" in note for note in capture.notes)


@pytest.mark.parametrize("training", [True, False])
def test_a_decomposed_export_is_read_as_well(tmp_path: Path, training: bool) -> None:
    """Its norms are other operators, and it returns the new running statistics beside the output."""
    model, inputs = twins.cnn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch copies a class of its own that it has deprecated
        program = torch.export.export(model.train(training), inputs).run_decompositions()
    assert ("_no_training" if not training else "_legit_functional") in str(program.graph)
    torch.export.save(program, tmp_path / "m.pt2")
    capture = load(str(tmp_path / "m.pt2")).capture
    assert capture is not None
    found, expected = analyze_capture(capture).parameters, api.analyze(model, inputs).parameters
    assert {n: p.verdict for n, p in found.items()} == {n: p.verdict for n, p in expected.items()}


# --- files of tensors -------------------------------------------------------------------------------------------


def test_tables_of_all_kinds_agree(tmp_path: Path) -> None:
    model, inputs = twins.cnn()
    expected = [
        (n, tuple(t.shape), str(t.dtype).removeprefix("torch."), t.nbytes) for n, t in model.state_dict().items()
    ]
    save_tensors(model, inputs, tmp_path / "m.safetensors")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    torch.save(model.state_dict(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    torch.save({"model": {"a": 1}, "net": model.state_dict()}, tmp_path / "nested.pth")
    for file in ("m.safetensors", "m.pt", "old.bin", "nested.pth"):
        table = table_of(tmp_path / file)
        assert sorted((t.name, t.shape, t.dtype, t.bytes) for t in table.tensors) == sorted(expected)
        assert table.bytes == sum(size for *_, size in expected)


def test_half_precision_and_shared_tensors_in_a_table(tmp_path: Path) -> None:
    shared = torch.zeros(3, 4, dtype=torch.bfloat16)
    torch.save({"a": shared, "b": shared, "c": torch.zeros(2, dtype=torch.float8_e4m3fn)}, tmp_path / "m.pt")
    table = table_of(tmp_path / "m.pt")
    assert [(t.name, t.dtype, t.bytes) for t in table.tensors][:2] == [("a", "bfloat16", 24), ("b", "bfloat16", 24)]
    assert (table.elements, table.bytes) == (14, 26)


def lightning(folder: Path) -> Path:
    """A checkpoint as trainers write it: parameters, optimizer, hyperparameters of a class of its own."""
    model, _ = twins.cnn()
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters())
    content = {"epoch": 1, "state_dict": state, "optimizer_states": [optimizer.state_dict()], "hparams": LoadError("x")}
    torch.save(content, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_a_trainer_checkpoint_needs_no_trust(tmp_path: Path) -> None:
    loaded = load(str(lightning(tmp_path)), arch=CNN)
    assert any("all names of the file begin with model." in note for note in loaded.notes)
    assert any("autogroup.errors.LoadError" in note for note in loaded.notes)
    assert loaded.model is not None
    assert all(p.is_meta for p in loaded.model.parameters())


def write_shards(folder: Path, *, leave_out: str = "") -> Path:
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    state = list(twins.cnn()[0].state_dict().items())
    parts = {"one.safetensors": dict(state[:9]), "two.safetensors": dict(state[9:])}
    for file, tensors in parts.items():
        library.save_file({n: t for n, t in tensors.items() if n != leave_out}, folder / file)
    names = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder / "model.safetensors.index.json"


def test_shards_are_one_table(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    assert load(str(index), arch=CNN).model is not None
    assert table_of(index).kind == "safetensors in 2 shards"
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(LoadError, match=r"the shard two\.safetensors is missing"):
        load(str(index))


def test_an_index_that_does_not_fit_its_shards(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"does not hold 'head\.bias'"):
        load(str(write_shards(tmp_path, leave_out="head.bias")))


def test_a_distributed_checkpoint(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without distributed")
    model, inputs = twins.cnn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save({"app": {"model": model.state_dict(), "step": 3}}, checkpoint_id=tmp_path / "c", no_dist=True)
    loaded = load(str(tmp_path / "c"), arch=CNN)
    assert any("begin with app.model." in note for note in loaded.notes)
    assert loaded.model is not None
    report = api.analyze(loaded.model, inputs)
    assert report.parameters["stem.weight"].verdict == "invariant"
    assert {t.name for t in table_of(tmp_path / "c").tensors} == {f"app.model.{name}" for name in model.state_dict()}


class Other(nn.Module):
    """Like the twin, but for one layer, and for a head of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.extra = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 7)


def test_what_differs_from_the_architecture_is_listed(tmp_path: Path) -> None:
    save_state_dict(*twins.cnn(), tmp_path / "m.pt")
    with pytest.raises(LoadError) as caught:
        load(str(tmp_path / "m.pt"), arch="tests.autogroup.test_formats_files:Other")
    message = str(caught.value)
    assert "missing in the file: extra.weight;" in message
    assert "head.weight (5x8 in the file, 7x8 in the architecture)" in message
    assert "only in the file: model.norm.weight" in message
    assert "begin with model." in message
    assert "\n" not in message


def test_missing_buffers_and_further_tensors_are_notes(tmp_path: Path) -> None:
    state = {n: t for n, t in twins.cnn()[0].state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save({**state, "old.table": torch.zeros(2)}, tmp_path / "m.pt")
    notes = load(str(tmp_path / "m.pt"), arch=CNN).notes
    assert any("in the file, not in the architecture: old.table" in note for note in notes)
    assert any("buffers that are not in the file: norm.num_batches_tracked" in note for note in notes)


def test_a_file_of_the_model_without_its_head_module(tmp_path: Path) -> None:
    """As the files of a language model without its head: all names lack what they have in front in the model."""

    model, _ = twins.cnn()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert any(
        "architecture begin with net." in n for n in load(str(tmp_path / "m.pt"), arch=f"{__name__}:wrapped").notes
    )


def wrapped() -> nn.Module:
    return nn.ModuleDict({"net": twins.Cnn()})


@pytest.mark.parametrize("kind", ["exported", "model", "report"])
def test_arch_is_for_files_of_tensors_only(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = CNN
    if kind == "exported":
        source = str(tmp_path / "m.pt2")
        save_exported(*twins.cnn(), Path(source))
    elif kind == "report":
        source = str(tmp_path / "m.json")
        api.analyze(*twins.cnn()).save(source)
    status, out, err = run(capsys, "inspect", source, "--arch", CNN)
    assert (status, out) == (2, "")
    assert "--arch is for files of tensors, drop it" in err


@pytest.mark.parametrize("arch", ["nonsense", "tests.autogroup.twins:nobody", "torch.nn:Linear"])
def test_an_architecture_that_cannot_be_built(tmp_path: Path, arch: str) -> None:
    torch.save({"w": torch.zeros(2)}, tmp_path / "m.pt")
    with pytest.raises(LoadError):
        load(str(tmp_path / "m.pt"), arch=arch)


def test_the_command_line_shows_tensors_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lightning(tmp_path)
    status, out, err = run(capsys, "inspect", path)
    assert status == 0
    assert "model.stem.weight" in out
    assert "8x3x3x3" in out
    assert "has names and shapes but no graph" in err
    data = json.loads(run(capsys, "inspect", path, "--format", "json")[1])
    assert data["totals"]["tensors"] == len(data["tensors"]) == 34
    lines = run(capsys, "inspect", path, "--format", "csv")[1].splitlines()
    assert lines[:2] == ["name,shape,dtype,bytes", "model.stem.weight,8x3x3x3,float32,864"]
    for command in (["explain", path, "model.stem.weight"], ["lint", path], ["inspect", path, "--verify"]):
        status, out, err = run(capsys, *command)
        assert (status, out, "--arch" in err, err.count("\n")) == (2, "", True, 1)
    status, out, _ = run(capsys, "lint", path, "--arch", CNN, "--against", "hf")
    assert status == 1
    assert "decayed" in out


# --- reports ----------------------------------------------------------------------------------------------------


def test_a_saved_report_serves_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cnn.autogroup.json"
    report = api.analyze(*twins.cnn())
    report.save(path)
    assert json.loads(run(capsys, "inspect", path, "--format", "json")[1]) == json.loads(path.read_text())
    assert "here the scale is removed" in run(capsys, "explain", path, "stem.weight")[1]
    assert "dead-bias" in run(capsys, "lint", path)[1]
    assert run(capsys, "lint", path, "--against", "names")[0] == 1
    assert run(capsys, "lint", path, "--lock", tmp_path / "l")[0] == 0
    for options in (["--verify"], ["--input", "2x3"], ["--mode", "eval"]):
        status, _, err = run(capsys, "inspect", path, *options)
        assert (status, err.count("\n")) == (2, 1)
    assert run(capsys, "lint", path, "--against", "hf")[0] == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["parameters"][0].update(verdict="splendid"),
        lambda d: d["parameters"][0].pop("role"),
        lambda d: d.update(parameters=3),
        lambda d: d["symmetries"][0]["members"][0].update(power="1e999999999"),
        lambda d: d["symmetries"][0]["members"][0].update(runs=[[0, 1, 1 << 40]]),
        lambda d: d["parameters"][0]["partition"].update(shape=[1 << 40, 3, 3, 3]),
        lambda d: d.update(schema=99),
    ],
)
def test_a_damaged_report(tmp_path: Path, change: Callable[[Any], None]) -> None:
    path = tmp_path / "r.json"
    api.analyze(*twins.cnn()).save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(LoadError, match=r"r\.json"):
        load(str(path))


# --- pickles ----------------------------------------------------------------------------------------------------


def test_a_trusted_module_comes_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(twins.cnn()[0], tmp_path / "m.pt")
    status, _, err = run(capsys, "inspect", tmp_path / "m.pt")
    assert status == 3
    assert "tests.autogroup.twins.Cnn" in err
    status, _, err = run(capsys, "inspect", tmp_path / "m.pt", "--trust", "--input", "2x3x16x16")
    assert status == 0
    assert "warning" in err
    assert "code stored in the file was run" in err


def test_a_pickle_in_place_of_the_metadata_is_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    (tmp_path / ".metadata").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(LoadError, match="does not describe"):
        load(str(tmp_path))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02e.",
        b"\x80\x02(.",
        b"\x80\x02]K\x01s.",
        b"\x80\x02h\x05.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x80\x02" + b"]" * 1000 + b".",
    ],
    ids=["empty", "short", "no value", "no mark", "open mark", "item of a list", "no memo", "huge string", "too long"],
)
def test_a_stream_that_is_no_pickle(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autogroup.readers.pickles.MAX_INSTRUCTIONS", 500)
    with pytest.raises(PickleError):
        read_pickle(stream)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_as_they_are(protocol: int) -> None:
    value = {"a": [1, -2, 1 << 70, 0.5, None, True, "é"], 3: ((), (1,), (1, 2, 3, 4)), "again": [{}, b"x"]}
    if protocol < 3:
        value["again"] = [{}]  # old protocols make bytes by calling a codec
    assert read_pickle(pickle.dumps(value, protocol=protocol)).value == value


# --- TorchScript ------------------------------------------------------------------------------------------------


class Writes(nn.Module):
    """Writes a file when ``torch.jit.load`` restores it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), self.path)


def test_no_code_of_a_script_runs_when_it_is_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "written_by_the_file"
    save_scripted(Writes(str(trap)), (), tmp_path / "m.pt")
    with pytest.raises(LoadError, match="Writes"):
        load(str(tmp_path / "m.pt"))
    assert not trap.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(tmp_path / "m.pt")
    assert trap.exists(), "the trap must work, or the test shows nothing"


def planted(tmp_path: Path, old: str, new: str) -> nn.Module:
    """A scripted linear layer with one statement of its code replaced."""
    save_scripted(nn.Sequential(nn.Linear(3, 2)), (), tmp_path / "good.pt")
    seen: list[bool] = []

    def change(name: str, content: bytes) -> bytes:
        seen.append(old.encode() in content)
        return content.replace(old.encode(), new.encode())

    rewrite(tmp_path / "good.pt", tmp_path / "m.pt", change)
    assert any(seen)
    model = load(str(tmp_path / "m.pt")).model
    assert model is not None
    return model


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ('torch.save(input, "{path}")', "calls torch.save"),
        ('torch.from_file("{path}", True, 9)', "calls torch.from_file"),
        ('open("{path}", "w")', "calls open"),
        ('__import__("os").mkdir("{path}")', "calls __import__"),
        ('torch.os.mkdir("{path}")', "calls torch.os.mkdir"),
        ("input.__class__.__subclasses__()", "is not read here|no attribute|has no attribute"),
        ("[i for i in input]", "is not read here"),
        ("__torch__.nothing.here(input)", "not in the archive"),
        ("torch.mul([0], 1000000000)", "so many items"),
        ("torch.pow(9, 999999999)", "so large"),
        ('ops.prim.RaiseException("on purpose")', "raises an error with these inputs: on purpose"),
        ("torch.unbind(torch.zeros([1000000000]))", "so many parts"),
    ],
)
def test_what_the_code_of_a_script_may_not_do(tmp_path: Path, statement: str, expected: str) -> None:
    path = tmp_path / "made_by_the_file"
    model = planted(tmp_path, "weight = self.weight", f"weight = self.weight\n    _9 = {statement.format(path=path)}")
    with pytest.raises(CaptureError, match=expected):
        api.analyze(model, torch.zeros(2, 3))
    assert not path.exists()


def test_a_script_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autogroup.readers.script_code.MAX_STEPS", 500)
    model = planted(tmp_path, "weight = self.weight", "weight = self.weight\n    while True:\n      pass")
    with pytest.raises(CaptureError, match="does not end within 500 statements"):
        api.analyze(model, torch.zeros(2, 3))


def test_a_traced_file_brings_the_sizes_of_its_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs = twins.decoder()
    save_traced(model, inputs, tmp_path / "m.pt")
    status, out, err = run(capsys, "inspect", tmp_path / "m.pt", "--format", "json")
    assert (status, err) == (0, "")
    assert "(2, 12) int64" in json.loads(out)["capture"]["inputs"]
    names = {p["name"] for p in json.loads(out)["parameters"]}
    assert names == {name for name, _ in model.named_parameters()}


# --- damaged files ----------------------------------------------------------------------------------------------

SAVE: dict[str, Callable[[Path], None]] = {
    "m.pt2": lambda path: save_exported(*twins.cnn(), path),
    "traced.pt": lambda path: save_traced(*twins.cnn(), path),
    "m.ckpt": lambda path: save_state_dict(*twins.cnn(), path),
    "m.bin": lambda path: torch.save(twins.cnn()[0].state_dict(), path, _use_new_zipfile_serialization=False),
    "m.safetensors": lambda path: save_tensors(*twins.cnn(), path),
    "m.json": lambda path: api.analyze(*twins.cnn()).save(path),
    "module.pt": lambda path: torch.save(twins.cnn()[0], path),
}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Change, delete or insert a few bytes, more often near the start, where the descriptions are."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = min(rng.randrange(len(found)), rng.randrange(6000))
        kind = rng.randrange(4)
        if kind == 0:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del found[at : at + rng.choice((1, 4, 100))]
        elif kind == 2:
            found[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"99999999"))
        else:
            found[at:at] = b"[" * rng.choice((1, 5000))
    return bytes(found)


def damaged_member(content: bytes, rng: random.Random) -> bytes:
    """Damage one description inside an archive, whose checksums are right again afterwards."""
    old = zipfile.ZipFile(io.BytesIO(content))
    target = rng.choice([n for n in old.namelist() if n.endswith((".json", ".pkl", ".py"))])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, damaged(old.read(name), rng) if name == target else old.read(name))
    return made.getvalue()


@pytest.mark.parametrize("file", SAVE)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, file: str) -> None:
    SAVE[file](tmp_path / file)
    content = (tmp_path / file).read_bytes()
    rng = random.Random(0)
    rounds = int(os.environ.get("AUTOGROUP_FUZZ_FILES", "60"))
    refused = 0
    for _ in range(rounds):
        in_member = content[:2] == b"PK" and rng.random() < 0.7
        (tmp_path / file).write_bytes((damaged_member if in_member else damaged)(content, rng))
        try:
            load(str(tmp_path / file))
        except AutogroupError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > rounds // 10


def test_kinds_of_errors() -> None:
    assert issubclass(UntrustedError, LoadError)
    assert not issubclass(InputError, LoadError)
