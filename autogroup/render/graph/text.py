"""Names and paths as every picture may show them: nothing invisible, nothing private."""

from __future__ import annotations

from autogroup.capture.provenance import relative_path


def printable(text: str) -> str:
    r"""Spell what cannot be printed, such as line ends or marks that turn the direction of text, as Python does.

    Backslashes are doubled, so that different names stay different.

    Example:
        >>> printable("layer 1/größe")
        'layer 1/größe'
        >>> print(printable("two\nlines"))
        two\nlines
    """
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def shareable(text: str) -> str:
    """Shorten the absolute paths in a SOURCE or ``file.py:line``: a picture is made to be passed on.

    Example:
        >>> shareable("/srv/someone/nets.py:12"), shareable("torchvision:resnet18")
        ('nets.py:12', 'torchvision:resnet18')
    """
    return ":".join(relative_path(piece) for piece in text.split(":"))


def short_operator(operator: str) -> str:
    """Return the name of an ATen overload without what surrounds it.

    Example:
        >>> short_operator("aten.batch_norm.default")
        'batch_norm'
    """
    parts = operator.split(".")
    return parts[1] if len(parts) == 3 else operator
