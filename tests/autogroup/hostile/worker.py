"""Run the command line on one file after the other in a process that watches what it does.

The process is asked by lines of JSON and answers in the same way. It sees, without being able to hinder it, what the
reading of a file must never do: start a process, write a file, resolve a name of a pickle, open a connection.
"""

from __future__ import annotations

import ctypes
import gc
import io
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
ADDRESS_SPACE = 3 << 30
"""Bytes that a case may map beyond what the process has: a backstop, so that no case can take the machine down."""
_FORBIDDEN = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.kill"),
    *("shutil.rmtree", "socket.connect", "socket.bind", "pickle.find_class", "code.__new__"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """What became of one command."""

    code: int | None
    """Exit code; ``None`` if the process died or was killed."""
    out: str
    err: str
    seconds: float
    memory: int
    """Bytes of growth at the peak."""
    events: tuple[str, ...]
    """What it did and must not do."""


class Worker:
    """The process, as the tests use it.

    Args:
        folder: an empty folder; in it is the working directory, which must stay empty.
        warmup: commands to run first, so that what they import is not counted.
        seconds: how long a command may take before the process is killed.
    """

    def __init__(self, folder: Path, warmup: list[list[str]], seconds: float) -> None:
        self.folder = folder / "run"
        self._cache = folder / "cache"  # torch's own
        self.folder.mkdir()
        self._cache.mkdir()
        self._warmup = warmup
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, argv: list[str]) -> Outcome:
        """Run ``autogroup ARGV``."""
        if self._process is None:
            self._start()
        started = time.monotonic()
        answer = self._ask(argv, self._seconds)
        if answer is None:
            self.stop()
            waited = time.monotonic() - started
            return Outcome(None, "", "", waited, 0, ("killed: too slow" if waited >= self._seconds else "died",))
        return Outcome(**{**answer, "events": tuple(answer["events"])})

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(self._cache)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.autogroup.hostile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env={**os.environ, **own},
        )
        for argv in self._warmup:
            answer = self._ask(argv, 300)
            assert answer is not None and answer["code"] in (0, 1, 2), f"{argv}: {answer}"
        self._ask([], 300)

    def _ask(self, argv: list[str], seconds: float) -> dict[str, Any] | None:
        """The answer to one command; ``None`` if there is none in time."""
        assert self._process is not None
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None and answers is not None
        asked.write(json.dumps(argv).encode() + b"\n")
        asked.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(answers, selectors.EVENT_READ)
            if not ready.select(seconds):
                return None
        line = answers.readline()
        return json.loads(line) if line.endswith(b"\n") else None


def _serve() -> None:
    """What the process does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write to where the answers go
    import torch

    from autogroup import cli

    torch.set_num_threads(1)
    tempfile.gettempdir()  # tries to write a file when it is first asked
    torch.set_warn_always(False)
    events: list[str] = []
    watching = False

    def watch(event: str, args: tuple[Any, ...]) -> None:
        there = event == "os.mkdir" and Path(args[0]).is_dir()  # torch makes sure of its folders again and again
        if watching and not there and (event in _FORBIDDEN or (event == "open" and _writes(args))):
            events.append(f"{event} {args}"[:300])

    sys.addaudithook(watch)
    space = _status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    for line in sys.stdin.buffer:
        argv = json.loads(line)
        out, err = io.StringIO(), io.StringIO()
        events.clear()
        gc.collect()
        if not argv:  # the warm-up is over: what there is by now stays, and need not be looked through again
            gc.freeze()
        ctypes.CDLL(None).malloc_trim(0)
        before, started = _peak_from_here(), time.process_time()
        watching = True
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = cli.main(argv) if argv else 0
        finally:
            watching = False
        seconds, memory = time.process_time() - started, _status("VmHWM") - before
        outcome = Outcome(code, out.getvalue()[:2000], err.getvalue()[:20000], seconds, memory, tuple(events))
        answers.write(json.dumps(asdict(outcome)).encode() + b"\n")
        answers.flush()


def _writes(args: tuple[Any, ...]) -> bool:
    path, mode, flags = args
    writing = any(c in mode for c in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITING)
    return writing and path != os.devnull


def _peak_from_here() -> int:
    """Let the peak of the memory count from here; return where it starts."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not every container may; then a peak below an earlier one is not seen
        return _status("VmHWM")
    return _status("VmRSS")


def _status(field: str) -> int:
    """A number of bytes that the kernel knows about this process."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{field}:"))


if __name__ == "__main__":
    _serve()
