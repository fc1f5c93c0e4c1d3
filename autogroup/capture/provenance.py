"""Where a graph node comes from: the innermost module and the line of model code, read from the Python stack.

One walk up the stack per node gives both. Nothing is registered anywhere, so nothing has to be removed
afterwards and other threads are not affected; it costs about a tenth of what a formatted stack trace does.
"""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType, TracebackType

import torch
from torch import fx, nn

from autogroup.capture.unwrap import clean_fqn

_TORCH = str(Path(torch.__file__).parent) + "/"
_TORCH_MODULES = _TORCH + "nn/modules/"
_STDLIB = sysconfig.get_paths()["stdlib"] + "/"
_PACKAGE = Path(__file__).parent.parent
_OWN_CODE = tuple(f"{_PACKAGE}/{part}" for part in ("capture/", "readers/", "api.py", "cli.py", "load.py"))
_MODULE_CALL = nn.Module._call_impl.__code__  # pyright: ignore[reportPrivateUsage]
_PACKAGES = ("/site-packages/", "/dist-packages/")


class Provenance:
    """Names modules and source lines for one model.

    Args:
        model: the module being traced; FQNs are relative to it.

    Example:
        >>> Provenance(nn.Linear(2, 3)).here(inspect.currentframe())[0]
        ''
    """

    def __init__(self, model: nn.Module) -> None:
        """Note the name of every module."""
        self._fqns = {id(module): clean_fqn(name) for name, module in model.named_modules()}
        self._shown: dict[str, str] = {}

    def watch(self, tracer: fx.Tracer, boundary: CodeType) -> None:
        """Make ``tracer`` write ``meta["module"]``, ``meta["source"]`` and ``meta["grad"]`` on every node it creates.

        Args:
            tracer: the tracer of the running trace. ``meta["grad"]`` tells whether autograd was recording.
            boundary: code object of the traced function; frames further out are not looked at.
        """
        create_node = tracer.create_node

        def create_and_locate(*args: object, **kwargs: object) -> fx.Node:
            node = create_node(*args, **kwargs)  # pyright: ignore[reportArgumentType]
            node.meta["module"], node.meta["source"] = self.here(inspect.currentframe(), boundary)
            node.meta["grad"] = torch.is_grad_enabled()
            return node

        tracer.create_node = create_and_locate

    def here(self, frame: FrameType | None, boundary: CodeType | None = None) -> tuple[str, str]:
        """Return (module FQN, source line) of the innermost model code at ``frame``."""
        return self._locate(_outward(frame), boundary)

    def of_error(self, error: BaseException) -> tuple[str, str]:
        """Return (module FQN, source line) of the model code that raised ``error``."""
        return self._locate(reversed(list(_inward(error.__traceback__))), None)

    def show(self, filename: str, line: int) -> str:
        """Return ``path:line`` with the path relative to its package folder or the working directory."""
        shown = self._shown.get(filename)
        if shown is None:
            shown = self._shown[filename] = relative_path(filename)
        return f"{shown}:{line}"

    def _locate(self, frames: Iterable[tuple[FrameType, int]], boundary: CodeType | None) -> tuple[str, str]:
        module, source, torch_layer = None, "", ""
        for frame, line in frames:
            code = frame.f_code
            if code is boundary:
                break
            if code is _MODULE_CALL:
                # A module outside the tree (created on the fly) counts as part of its caller.
                module = self._fqns.get(id(frame.f_locals.get("self"))) if module is None else module
                if module is not None and source:
                    break
            elif not source:
                filename = code.co_filename
                if not _is_internal(filename):
                    source = self.show(filename, line)
                    if module is not None:
                        break
                elif not torch_layer and filename.startswith(_TORCH_MODULES):
                    torch_layer = self.show(filename, line)
        return module or "", source or torch_layer


def relative_path(filename: str) -> str:
    """Return ``filename`` relative to site-packages, the working directory or an import root, in this order."""
    for marker in _PACKAGES:
        if marker in filename:
            return filename.rpartition(marker)[2]
    path = Path(filename)
    if not path.is_absolute():
        return filename
    for root in (Path.cwd(), *sorted(map(Path, filter(None, sys.path)), key=lambda p: -len(p.parts))):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


_internal: dict[str, bool] = {}


def _is_internal(filename: str) -> bool:
    """Whether a file belongs to torch, the standard library, or this trace itself."""
    known = _internal.get(filename)
    if known is None:
        in_stdlib = filename.startswith(_STDLIB) and not any(marker in filename for marker in _PACKAGES)
        known = filename.startswith((_TORCH, "<frozen", *_OWN_CODE)) or in_stdlib
        _internal[filename] = known
    return known


def _outward(frame: FrameType | None) -> Iterable[tuple[FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _inward(traceback: TracebackType | None) -> Iterable[tuple[FrameType, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
