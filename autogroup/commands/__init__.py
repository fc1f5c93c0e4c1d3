"""What each command of ``autogroup`` does: one file per command, imported when it runs."""

from __future__ import annotations

import os
import sys

from autogroup.errors import AutogroupError, InputError, UntrustedError, printable

OK, FINDINGS, UNREADABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; of several sources the largest one counts."""

MAX_MESSAGE = 4000
"""Characters of an error that are printed: names from files can have any length."""


def report_failure(error: Exception) -> int:
    """Print an error in one line on stderr and return its exit code.

    Raises:
        Exception: the error itself, if ``AUTOGROUP_TRACEBACK`` is set.
    """
    if os.environ.get("AUTOGROUP_TRACEBACK"):
        raise error
    print(f"autogroup: {message(error)}", file=sys.stderr)
    return code_of(error)


def message(error: BaseException) -> str:
    """Return what an error says in one line; one that was not raised on purpose also says what it is.

    Example:
        >>> message(ZeroDivisionError("on purpose"))
        'ZeroDivisionError: on purpose'
    """
    text = " ".join(str(error).split())
    text = printable(text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…")
    if isinstance(error, InputError) and "args=" in text:
        text += " (on the command line: --input SHAPE[:DTYPE])"
    return text if isinstance(error, AutogroupError) else f"{type(error).__name__}: {text}"


def code_of(error: BaseException) -> int:
    """Return the exit code that an error leads to."""
    return REFUSED if isinstance(error, UntrustedError) else UNREADABLE
