"""Processes that examine one model after the other, so that one that crashes or hangs costs only its own row."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import connection, get_context
from typing import TYPE_CHECKING, Any

from autogroup.commands import UNREADABLE, code_of, message
from autogroup.errors import AutogroupError
from autogroup.scan import Row

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LIBRARIES = {"timm": "timm", "torchvision": "torchvision.models", "hf": "transformers"}
"""First part of a SOURCE -> what reading it imports."""
_ALWAYS = ("autogroup.commands.source", "autogroup.api", "autogroup.capture.subject", "autogroup.capture.tracing")
"""What almost every model needs. Workers import it beforehand, so that the first model takes no longer than others."""


class Pool:
    """Examines models in processes of their own; leaving the ``with`` block ends them, whatever they do.

    Args:
        models: a SOURCE each.
        arguments: the options of the command line; of them ``jobs`` processes, each of one thread, and ``timeout``
            seconds for each model.
    """

    def __init__(self, models: Iterable[str], arguments: argparse.Namespace) -> None:
        self._waiting = deque(models)
        self._arguments = arguments
        kinds = {model.partition(":")[0] for model in self._waiting}
        self._modules = [*_ALWAYS, *(_LIBRARIES[kind] for kind in sorted(kinds & _LIBRARIES.keys()))]
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        """Nothing runs before the rows are asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()

    @property
    def running(self) -> list[str]:
        """The models that are being examined."""
        return [worker.model for worker in self._workers if worker.model]

    def rows(self) -> Iterator[Row | None]:
        """Yield the row of each model as soon as it is there, and ``None`` whenever another one is begun.

        Raises:
            AutogroupError: a process cannot even start.
        """
        yield None
        while self._waiting or self.running:
            starting = sum(not worker.model for worker in self._workers)
            room = min(self._arguments.jobs - len(self._workers), len(self._waiting) - starting)
            self._workers += [_Worker(self._arguments, self._modules) for _ in range(room)]
            soonest = min(worker.deadline for worker in self._workers) - time.monotonic()
            connection.wait([worker.pipe for worker in self._workers], None if math.isinf(soonest) else max(0, soonest))
            for worker in list(self._workers):
                row = worker.poll()
                if worker.ended:
                    self._workers.remove(worker)
                begun = worker.ready and bool(self._waiting)
                if begun:
                    worker.begin(self._waiting.popleft())
                if row is not None or begun:
                    yield row


class _Worker:
    """One process, as its parent sees it."""

    def __init__(self, arguments: argparse.Namespace, modules: list[str]) -> None:
        self.model = ""
        """What is being examined, if anything."""
        self.ready = False
        """Whether it waits for a model."""
        self.ended = False
        self.deadline = math.inf
        """When it is out of time, on the clock of ``time.monotonic``."""
        self._begun = 0.0
        self._timeout: float = arguments.timeout
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, arguments, modules), daemon=True)
        with _interrupts_blocked():
            self._process.start()
        theirs.close()

    def begin(self, model: str) -> None:
        """Let it examine a model."""
        self.model, self.ready = model, False
        self._begun = time.monotonic()
        self.deadline = self._begun + self._timeout
        with suppress(OSError):  # the process has ended: there will be nothing to receive
            self.pipe.send(model)

    def poll(self) -> Row | None:
        """Return the row of the model if the process is done with it, or is done for."""
        if self.pipe.poll():
            try:
                row: Row | None = self.pipe.recv()
            except (EOFError, OSError):
                return self._crashed()
            self.model, self.ready, self.deadline = "", True, math.inf
            return row
        if time.monotonic() >= self.deadline:
            self.end()
            return self._failure(f"took longer than --timeout {self._timeout:g} s")
        return None

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self.pipe.close()
        self.ready, self.ended = False, True

    def _crashed(self) -> Row | None:
        self._process.join()
        code = self._process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        idle = self.ready
        self.end()
        if self.model:
            return self._failure(f"crashed ({how})")
        if not idle:  # another one would not start either
            raise AutogroupError(f"a process of the scan cannot start ({how}); AUTOGROUP_TRACEBACK=1 shows why")
        return None

    def _failure(self, reason: str) -> Row:
        seconds = round(time.monotonic() - self._begun, 3)
        return Row(self.model, seconds=seconds, error=reason, exit_code=UNREADABLE)


@contextmanager
def _interrupts_blocked() -> Generator[None]:
    """Start a process that Ctrl-C does not reach: the parent decides what becomes of it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection[Any, Any], arguments: argparse.Namespace, modules: list[str]) -> None:
    """Examine what comes through the pipe until it is closed; runs in a process of its own.

    Args:
        pipe: takes a SOURCE and gives back its row; at first gives ``None``, when everything is imported.
        arguments: the options of the command line.
        modules: what to import before the first model.
    """
    _silence()
    import torch

    torch.set_num_threads(1)
    for module in modules:
        with suppress(Exception):  # a model library that is broken or missing: the row of each model says so
            import_module(module)
    pipe.send(None)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while True:
            pipe.send(examine(pipe.recv(), arguments))


def examine(model: str, arguments: argparse.Namespace) -> Row:
    """Return the row of one model; whatever goes wrong stands in it.

    Args:
        model: a SOURCE.
        arguments: the options of the command line.
    """
    from autogroup.commands.source import load_source, report_of, verify

    start = time.perf_counter()
    try:
        loaded = load_source(model, arguments)
        report = report_of(loaded, arguments)
        certificate = verify(loaded, report, arguments) if arguments.verify else None
    except (Exception, SystemExit) as error:
        if os.environ.get("AUTOGROUP_TRACEBACK"):
            sys.excepthook(type(error), error, error.__traceback__)
        seconds = round(time.perf_counter() - start, 3)
        return Row(model, seconds=seconds, error=message(error), exit_code=code_of(error))
    return Row.of(model, report, time.perf_counter() - start, certificate)


def _silence() -> None:
    """Print nothing into the output of the parent: a model may, and libraries warn. Tracebacks may be asked for."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    if not os.environ.get("AUTOGROUP_TRACEBACK"):
        os.dup2(nothing, 2)
