"""One model, many files: the report must be the same from the live module and from every format that can hold it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autogroup import api
from autogroup.load import Loaded, LoadedModel, analyze_capture, load
from autogroup.report import Report
from tests.autogroup import twins

Inputs = tuple[Tensor, ...]

TWINS = {"cnn": twins.cnn, "vit": twins.vit, "decoder": twins.decoder}
_SAVED: dict[str, Path] = {}


def save_exported(model: nn.Module, inputs: Inputs, path: Path) -> None:
    torch.export.save(torch.export.export(model, inputs), path)


def save_traced(model: nn.Module, inputs: Inputs, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and tracing warns of every size it takes as fixed
        torch.jit.save(torch.jit.trace(model, inputs, check_trace=False, strict=False), path)


def save_scripted(model: nn.Module, _: Inputs, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(model), path)


def save_tensors(model: nn.Module, _: Inputs, path: Path) -> None:
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    distinct = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    library.save_file({name: t for name, t in model.state_dict().items() if name in distinct.values()}, path)


def save_state_dict(model: nn.Module, _: Inputs, path: Path) -> None:
    torch.save({"state_dict": {f"model.{name}": t for name, t in model.state_dict().items()}, "epoch": 3}, path)


FORMATS: dict[str, tuple[str, Callable[[nn.Module, Inputs, Path], None], bool]] = {
    "exported": ("model.pt2", save_exported, False),
    "traced": ("traced.pt", save_traced, False),
    "scripted": ("scripted.pt", save_scripted, False),
    "safetensors": ("model.safetensors", save_tensors, True),
    "state dict": ("model.ckpt", save_state_dict, True),
}
"""Name -> file, how it is written, and whether it takes an architecture."""


def report_of(loaded: Loaded, inputs: Inputs) -> Report:
    if isinstance(loaded.content, LoadedModel):
        return api.analyze(loaded.content.model, loaded.content.args or inputs, loaded.content.kwargs)
    assert loaded.capture is not None
    return analyze_capture(loaded.capture)


def facts(report: Report) -> dict[str, Any]:
    """All that a report says but for the lines of code it names, which a file may not have."""
    parameters = [replace(p, path=(), reason="") for p in report.parameters.values()]
    return {
        "parameters": [p.to_dict() for p in parameters],
        "relations": [(r.parameter, r.norm, r.operator) for r in report.relations],
        "symmetries": sorted(json.dumps(s.to_dict()) for s in report.symmetries),
        "unknown": dict(report.unknown_ops),
        "operators": {p.name: [s.operator for s in p.path][-1:] for p in report.parameters.values()},
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", TWINS)
def test_every_format_gives_the_report_of_the_model(tmp_path: Path, name: str, mode: str, form: str) -> None:
    """Also those saved in evaluation mode: the analysis is of training."""
    model, inputs = TWINS[name]()
    file, save, needs_architecture = FORMATS[form]
    save(model.train(mode == "train"), inputs, tmp_path / file)
    loaded = load(str(tmp_path / file), arch=f"tests.autogroup.twins:{name}" if needs_architecture else None)
    expected = facts(api.analyze(model.train(), inputs))
    assert facts(report_of(loaded, inputs)) == expected
    assert {p["verdict"] for p in expected["parameters"]} >= {"variant"}


def test_a_saved_report_is_the_report(tmp_path: Path) -> None:
    report = api.analyze(*twins.vit())
    report.save(tmp_path / "vit.autogroup.json")
    assert load(str(tmp_path / "vit.autogroup.json")).content == report
