"""Inference: a captured graph becomes a report."""

from autogroup.infer.findings import infer as infer
