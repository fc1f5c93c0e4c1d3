"""The errors a user can meet. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class AutogroupError(Exception):
    """Base class of every error raised on purpose by this package."""


class CaptureError(AutogroupError):
    """The model's forward could not be traced."""


class InputError(AutogroupError):
    """The example inputs are missing, of the wrong kind, or cannot be guessed."""


class LoadError(AutogroupError):
    """A SOURCE does not exist or is not something this package reads (exit code 2)."""


class UntrustedError(LoadError):
    """Reading the SOURCE would run code stored in it; needs explicit trust (exit code 3)."""


class GroupError(AutogroupError):
    """A report and a model do not fit, or a grouping policy is impossible."""


class RuleError(AutogroupError):
    """A rule of this package failed on an operator: a fault of autogroup, never of the model."""


def printable(text: str) -> str:
    r"""Spell out what would move the cursor of a terminal: a name from a file may hold anything.

    Example:
        >>> print(printable("a\x1bb"))
        a\x1bb
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
