"""NETS: every small network with its exact answer. ``netkit`` says what a case is, ``oracle`` decides the truth."""

from __future__ import annotations

from tests.autogroup import nets_attention, nets_cnn, nets_dense
from tests.autogroup.netkit import Case

NETS: tuple[Case, ...] = (*nets_cnn.CASES, *nets_dense.CASES, *nets_attention.CASES)
