"""Models from the user's own code: ``package.module:callable`` and ``file.py:callable``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from autogroup.errors import LoadError

ModelAndInputs = tuple[nn.Module, tuple[Any, ...] | None, dict[str, Any] | None]


def read_python(source: str) -> ModelAndInputs:
    """Import the code, call what is named, and return the model with the inputs it came with, if any.

    Args:
        source: ``package.module:name`` or ``path/file.py:name``; the name may be dotted. It is a module instance,
            a module class, or a callable without arguments that returns a module, ``(module, args)`` or
            ``(module, args, kwargs)``.

    Raises:
        LoadError: no such file, module or name; the code failed; it returned something else.
    """
    where, _, name = source.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise LoadError(f"{where} has no name {name!r}{_close(part, found)}")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found, None, None
    if not callable(found):
        raise LoadError(f"{source} is a {type(found).__name__}: name an nn.Module, its class, or a function making one")
    with _running(f"{source}()"):
        made = found()
    return _unpack(source, made)


def _unpack(source: str, made: Any) -> ModelAndInputs:
    parts: list[Any] = list(cast("tuple[Any, ...]", made)) if isinstance(made, tuple) else [made]
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], nn.Module):
        raise LoadError(
            f"{source}() returned {_kind(made)}: it must return an nn.Module, (module, args) or (module, args, kwargs)"
        )
    model: nn.Module = parts[0]
    args: Any = parts[1] if len(parts) > 1 else None
    kwargs: Any = parts[2] if len(parts) > 2 else None
    if isinstance(args, Tensor):
        args = (args,)
    elif isinstance(args, dict) and kwargs is None:
        args, kwargs = (), cast("dict[str, Any]", args)
    elif isinstance(args, list):
        args = tuple(cast("list[Any]", args))
    if not (args is None or isinstance(args, tuple)) or not (kwargs is None or isinstance(kwargs, dict)):
        raise LoadError(f"{source}() returned {_kind(made)}: args must be a tuple and kwargs a dict")
    return model, cast("tuple[Any, ...] | None", args), cast("dict[str, Any] | None", kwargs)


def _kind(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(part).__name__ for part in cast('tuple[Any, ...]', made))})"
    return f"a {type(made).__name__}"


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    name = f"_autogroup_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path}: not Python source")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name
    with _running(str(path)), importing_from(path.resolve().parent):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    with importing_from(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and f"{name}.".startswith(f"{error.name}."):
                raise LoadError(
                    f"no module named {error.name!r}: SOURCE is a file, package.module:callable, file.py:callable, "
                    "torchvision:NAME or timm:NAME"
                ) from error
            raise LoadError(f"importing {name} failed: {_last_place(error)}") from error
        except Exception as error:
            raise LoadError(f"importing {name} failed: {_last_place(error)}") from error


@contextmanager
def importing_from(folder: Path) -> Generator[None]:
    """Let the code import its neighbours, as ``python file.py`` and ``python -m`` do."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


@contextmanager
def _running(what: str) -> Generator[None]:
    """Turn any failure of the user's code into one line that names the place."""
    try:
        yield
    except LoadError:
        raise
    except (Exception, SystemExit) as error:
        raise LoadError(f"{what} failed: {_last_place(error)}") from error


def _last_place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    text = str(error).strip().splitlines()
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[0] if text else 'no message'}{place}"


def _close(name: str, found: Any) -> str:
    public = [n for n in dir(found) if not n.startswith("_")]
    close = difflib.get_close_matches(name, public, n=5, cutoff=0.5)
    return f"; close matches: {', '.join(close)}" if close else ""
