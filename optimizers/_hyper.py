"""`Hyper`: what a rule reads besides tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any


class Hyper:
    """Numbers, flags and blocks, as attributes. A plain class, because Dynamo cannot trace a SimpleNamespace."""

    blocks: Any

    def __init__(self, blocks: object, flags: Mapping[str, bool], numbers: Mapping[str, Any]) -> None:
        self.blocks = blocks
        for name, flag in flags.items():
            setattr(self, name, flag)
        for name, number in numbers.items():
            setattr(self, name, number)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
