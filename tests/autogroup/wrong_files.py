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
    elif kind == "state dict":
        torch.save({"weight": torch.zeros(2)}, path)
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
    elif kind == "safetensors":
        path = folder / "weights.safetensors"
        path.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    elif kind == "python":
        path = folder / "model.py"
        path.write_text("")
    elif kind != "missing":
        raise ValueError(f"no wrong file is called {kind!r}")
    return path
