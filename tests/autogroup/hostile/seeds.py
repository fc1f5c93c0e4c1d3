"""One tiny file of every format, written by torch itself: what the mutations start from."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path

import torch
import torch.distributed.checkpoint
from torch import Tensor, nn

from autogroup import api


class Net(nn.Module):
    """A convolution with batch norm, a tied layer, a wrapped block, a constant, an index buffer, a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Linear(8, 8)
        self.again = self.mix
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 4)
        self.register_buffer("order", torch.arange(8).flip(0))
        self.scale = torch.tensor([1.0, 2.0, 4.0, 8.0])

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x))).mean([2, 3])
        y = self.again(self.mix(y)[:, self.order])
        with torch.no_grad():
            size = y.norm()
        first, second = y.split(4, 1)
        return self.head(self.drop(torch.cat([second, first], 1) / size)) * self.scale


class Plain(nn.Module):
    """What TorchScript and pickles can hold as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x))).mean([2, 3])
        if self.training:
            y = y * 2
        return self.head(y)


def build() -> nn.Module:
    """The architecture of the files of tensors, for ``--arch``."""
    return Plain()


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write all seeds; each is the only thing in a folder of its own, since some consist of several files.

    Returns:
        name -> what to give to the command line.
    """
    torch.manual_seed(0)
    found: dict[str, Path] = {}

    def place(name: str) -> Path:
        (folder / name.partition(".")[0]).mkdir(parents=True)
        found[name] = folder / name.partition(".")[0] / name
        return found[name]

    net, plain, image = Net(), Plain(), torch.zeros(2, 3, 6, 6)
    state = plain.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; torch warns of its own classes
        program = torch.export.export(net, (image,))
        torch.export.save(program, place("exported.pt2"))
        _without_weights(found["exported.pt2"], place("bare.pt2"))
        batch = {"x": {0: torch.export.Dim("batch", min=2, max=64)}}
        torch.export.save(torch.export.export(plain.eval(), (image,), dynamic_shapes=batch), place("dynamic.pt2"))
        plain.train()
        torch.jit.save(torch.jit.trace(plain, (image,), check_trace=False), place("traced.pt"))
        torch.jit.save(torch.jit.script(plain), place("scripted.pt"))
        torch.distributed.checkpoint.save({"model": state}, checkpoint_id=place("distributed"), no_dist=True)
    torch.save(state, place("state.pt"))
    torch.save(state, place("legacy.bin"), _use_new_zipfile_serialization=False)
    optimizer = torch.optim.Adam(plain.parameters())
    trained = {"state_dict": state, "optimizer_states": [optimizer.state_dict()], "hparams": {"lr": 0.1}, "epoch": 3}
    torch.save({**trained, "callback": ValueError("an object of a class")}, place("lightning.ckpt"))
    torch.save(plain, place("module.pt"))
    torch.save(plain, place("old_module.pt"), _use_new_zipfile_serialization=False)
    api.analyze(net, image).save(place("report.json"))
    place("one.safetensors").write_bytes(safetensors(state))
    names = list(state)
    parts = {"a.safetensors": names[:4], "b.safetensors": names[4:]}
    index = place("shards.json")
    for file, own in parts.items():
        index.with_name(file).write_bytes(safetensors({name: state[name] for name in own}))
    index.write_text(json.dumps({"metadata": {}, "weight_map": {n: f for f, own in parts.items() for n in own}}))
    return found


def safetensors(state: dict[str, Tensor]) -> bytes:
    """The tensors in the format of the library, which is not needed to write it."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in state.items():
        spelled = {"torch.float32": "F32", "torch.int64": "I64"}[str(tensor.dtype)]
        header[name] = {"dtype": spelled, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def _without_weights(source: Path, target: Path) -> None:
    """Drop weights and example inputs: the graph alone is a file that is read as well."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if "/weight_" not in name and not name.endswith(".pt"):
                new.writestr(name, old.read(name))
