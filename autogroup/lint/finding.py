"""Finding: one thing to look at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one parameter.

    Args:
        code: short name of the kind of finding, e.g. ``dead-bias``.
        parameter: FQN.
        what: what was found, in words.
        advice: what to do about it.
    """

    code: str
    parameter: str
    what: str
    advice: str
