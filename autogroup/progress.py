"""How long work says how far it is: a function that whoever starts the work passes down. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], object]
"""Called with what is being done, how many of its parts are finished, and of how many; 0 of 1 where nothing counts."""


def silent(stage: str, done: int, total: int) -> None:
    """Say nothing.

    Example:
        >>> silent("capture", 0, 1)
    """
