"""Files that are not what their name says, or not a model at all."""

import zipfile
from pathlib import Path

import torch


def wrong_file(kind: str, folder: Path) -> Path:
    """Write a file of the given kind and return its path; ``"missing"`` writes nothing."""
    path = folder / "wrong.pt2"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello\n")
    elif kind == "zip of something":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "hello")
    elif kind == "truncated":
        torch.save({"weight": torch.zeros(2000)}, path)
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "truncated pickle":
        torch.save({"weight": torch.zeros(100)}, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "torchscript":
        path = folder / "script.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("script/constants.pkl", "script/data.pkl", "script/code/__torch__.py"):
                archive.writestr(name, "")
    elif kind == "header longer than the file":
        path = folder / "weights.safetensors"
        path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    elif kind == "header too large":
        path = folder / "weights.safetensors"
        with path.open("wb") as file:  # sparse: takes no room on the disk
            file.write((100_000_001).to_bytes(8, "little") + b"{")
            file.truncate(100_000_100)
    elif kind == "deep JSON":
        path = folder / "weights.safetensors"
        header = b'{"w":' * 100_000
        path.write_bytes(len(header).to_bytes(8, "little") + header)
    elif kind == "deep report":
        path = folder / "net.autogroup.json"
        path.write_bytes(b'{"schema": ' + b"[" * 100_000)
    elif kind == "other JSON":
        path = folder / "notes.json"
        path.write_text('{"some": "thing"}')
    elif kind == "shard elsewhere":
        path = folder / "model.safetensors.index.json"
        path.write_text('{"weight_map": {"w": "../weights.safetensors"}}')
    elif kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("net/archive_format", "pt2")
            archive.writestr("net/models/model.json", b" " * (9 << 20))
    elif kind == "python":
        path = folder / "model.py"
        path.write_text("")
    elif kind != "missing":
        raise ValueError(f"no wrong file is called {kind!r}")
    return path
