"""Models from a model library: ``torchvision:resnet18``, ``timm:convnext_tiny``, ``hf:FOLDER``. Downloads nothing."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from autogroup.errors import LoadError


def read_torchvision(name: str) -> nn.Module:
    """Build a torchvision model with ``weights=None``.

    Raises:
        LoadError: torchvision is missing or broken, or has no model of that name.
    """
    models = _import("torchvision.models", "torchvision")
    known: list[str] = models.list_models()
    if name not in known:
        raise LoadError(_unknown("torchvision", name, known))
    builder = models.get_model_builder(name)
    detection = {"weights_backbone": None} if name in models.list_models(module=models.detection) else {}
    detection |= {"weights_backbone": None} if name in models.list_models(module=models.segmentation) else {}
    # Without this, GoogLeNet and Inception warn that a future version changes how they initialize.
    plain = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return _build(f"torchvision:{name}", lambda: builder(weights=None, **detection, **plain))


def read_timm(name: str) -> nn.Module:
    """Build a timm model with ``pretrained=False``.

    Raises:
        LoadError: timm is missing or broken, or has no model of that name.
    """
    timm = _import("timm", "timm")
    if not timm.is_model(name):
        raise LoadError(_unknown("timm", name, timm.list_models()))
    return _build(f"timm:{name}", lambda: timm.create_model(name, pretrained=False))


def read_transformers(path: Path) -> nn.Module:
    """Build a transformers model from its configuration; weights beside it stay unread.

    Args:
        path: a ``config.json`` or the folder that holds it. Code that came with the model is never run.

    Raises:
        LoadError: no such file, transformers is missing or broken, or it does not know the architecture.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise LoadError(f"hf:{path}: no such file or folder; give a local config.json, nothing is downloaded")
    if find_spec("torchvision") is not None:
        _import("torchvision", "torchvision")  # transformers imports it too, and would fail on a broken one
    transformers = _import("transformers", "transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(str(file), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise LoadError(f"{file}: not a configuration that transformers can read: {_one_line(error)}") from error
    named: list[str] = config.architectures or []
    architecture = _attribute(transformers, named[0]) if named else None
    if named and not (isinstance(architecture, type) and issubclass(architecture, nn.Module)):
        raise LoadError(f"{file}: transformers {transformers.__version__} has no architecture {named[0]}")
    return _build(f"hf:{path}", lambda: (architecture or transformers.AutoModel.from_config)(config))


def list_models(library: str) -> list[str]:
    """Return the names of all models of a library.

    Args:
        library: "torchvision" or "timm".

    Raises:
        LoadError: it is missing or broken.
    """
    return _import({"torchvision": "torchvision.models"}.get(library, library), library).list_models()


def _attribute(library: ModuleType, name: str) -> Any:
    """Return an attribute that the library imports when it is asked for, ``None`` if it has none of that name."""
    try:
        return getattr(library, name, None)
    except Exception as error:
        raise LoadError(f"{library.__name__}.{name} cannot be imported: {_one_line(error)}") from error


def _import(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise LoadError(f"{package} is not installed: pip install {package}") from error
        raise LoadError(f"{package} cannot be imported: {error}") from error
    except Exception as error:
        raise LoadError(f"{package} is installed but cannot be imported: {_one_line(error)}") from error


def _build(label: str, build: Callable[[], nn.Module]) -> nn.Module:
    """Build without memory for the parameters where the constructor allows it, else as usual."""
    try:
        with parameters_on_meta():
            model = build()
        if not any(buffer.is_meta for buffer in model.buffers()):
            return model
    except Exception:  # a constructor may compute with its parameters: anything can go wrong
        pass
    try:
        return build()
    except Exception as error:
        raise LoadError(f"{label} cannot be built: {_one_line(error)}") from error


@contextmanager
def parameters_on_meta() -> Generator[None]:
    """Within this context every parameter a module registers is moved to the meta device at once.

    Buffers stay real: tables of indices (relative positions) decide which entries a graph reads. Building under
    ``torch.device("meta")`` would lose them, and fails where a constructor reads a number back.
    """
    register = nn.Module.register_parameter

    def register_on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if type(param) is nn.Parameter and not param.is_meta:
            if param not in moved:
                moved[param] = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
            param = moved[param]
        register(self, name, param)

    # A parameter registered under two names must stay one; weak keys let the memory of the original go.
    moved = WeakIdKeyDictionary()
    nn.Module.register_parameter = register_on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register


def _unknown(library: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; close matches: {', '.join(close)}" if close else f"; it has {len(known)} models"
    return f"{library} has no model {name!r}{hint}"


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
