"""Lint: what the analysis of a model says about its code, and about rules that read names and shapes instead."""

from autogroup.lint.decay import against_timm, against_transformers
from autogroup.lint.finding import Finding
from autogroup.lint.names import against_names
from autogroup.lint.own import lint

__all__ = ["Finding", "against_names", "against_timm", "against_transformers", "lint"]
