"""One file per operator family; importing this package fills the table in ``autogroup.registry``."""

from autogroup.rules import (
    arithmetic,
    assembly,
    attention,
    contraction,
    convolution,
    creation,
    indexing,
    movement,
    normalization,
    pointwise,
    reduction,
)

__all__ = [
    "arithmetic",
    "assembly",
    "attention",
    "contraction",
    "convolution",
    "creation",
    "indexing",
    "movement",
    "normalization",
    "pointwise",
    "reduction",
]
