"""Optimizers that know which weights are scale-invariant, and the classics beside them.

Importing this package never imports the analyzer; the two meet in plain ``torch.optim`` param groups.
"""

from optimizers.adam_s import AdamS as AdamS
from optimizers.adam_srt import AdamSRT as AdamSRT
from optimizers.sgdmrt import SGDMRT as SGDMRT

__all__ = ["SGDMRT", "AdamS", "AdamSRT"]
