"""Recipes: the parameter groups that families of optimizers read, from a report.

Each function takes a report and the model and returns groups with exactly the keys its family knows, besides ``params``
and ``param_names``. All of them also take ``layer_decay``, ``lr`` and ``overrides`` as
``autogroup.groups.param_groups`` does. What is not proved invariant is treated as not invariant: ``partial`` and
``joint`` verdicts too.

    report = autogroup.analyze(model, inputs)
    optimizer = AdamP(recipes.adamp(report, model, weight_decay=1e-2), lr=1e-3)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypedDict, Unpack

from torch import nn

from autogroup.groups import (
    Overrides,
    Policy,
    check_number,
    decay_policy,
    depth_policy,
    grouped,
    is_weight,
    partition_policy,
)
from autogroup.report import ParameterReport, Report

Groups = list[dict[str, Any]]


class Common(TypedDict, total=False):
    """Arguments that every recipe takes; see ``autogroup.groups.param_groups``."""

    layer_decay: float | None
    lr: float | None
    overrides: Overrides | None


def spherical(
    report: Report,
    model: nn.Module,
    *,
    weight_decay: float | None = None,
    decay_invariant: bool = True,
    **common: Unpack[Common],
) -> Groups:
    """Groups for optimizers on spheres: AdamSRT, AdamS, SGDMRT (Roburin et al., arXiv 2006.13382), AdamG.

    Keys: ``channel_dims`` and ``channel_groups``, the blocks that move on a sphere each; ``channel_dims=None`` is the
    classic algorithm. These are the groups of ``Report.param_groups``.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> groups = spherical(analyze(model, torch.zeros(2, 3, 8, 8)), model)
        >>> [(g["param_names"], g["channel_dims"]) for g in groups]
        [(['0.weight'], (0,)), (['1.weight', '1.bias'], None)]
    """
    policies = [partition_policy, decay_policy(weight_decay, decay_invariant=decay_invariant)]
    return _groups(report, model, policies, **common)


def adamp(report: Report, model: nn.Module, *, weight_decay: float | None = None, **common: Unpack[Common]) -> Groups:
    """Groups for AdamP and SGDP (Heo et al., arXiv 2006.08217): project where invariance is proved, nowhere else.

    The published classes guess at each step: a weight counts as invariant while the cosine between it and its gradient
    is small, below ``delta / sqrt(d)``, per output channel or else for the whole tensor. ``delta`` decides:

    - not invariant: ``delta=0.0``, so there is never a projection, and decay is never reduced;
    - invariant for every output channel: ``delta=inf``, so every step is projected, channel by channel;
    - invariant over larger blocks, or those of another dim: no ``delta``, the guess of the class remains, because it
      has no words for such blocks.

    ``channel_dims`` and ``channel_groups`` are there as well, for classes that read the blocks themselves.
    Vectors are never projected by the published classes, whatever their group says.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> groups = adamp(analyze(model, torch.zeros(2, 3, 8, 8)), model)
        >>> [(g["param_names"], g["delta"]) for g in groups]
        [(['0.weight'], inf), (['1.weight', '1.bias'], 0.0)]
    """

    def projection(found: ParameterReport) -> dict[str, Any]:
        if found.channel_dims is None:
            return {"delta": 0.0}
        per_channel = 0 in found.channel_dims and found.channel_groups is None
        return {"delta": math.inf} if per_channel else {}

    return _groups(report, model, [partition_policy, projection, decay_policy(weight_decay)], **common)


def agc(
    report: Report,
    model: nn.Module,
    *,
    clipping: float = 1e-2,
    weight_decay: float | None = None,
    **common: Unpack[Common],
) -> Groups:
    """Groups for adaptive gradient clipping (Brock et al., arXiv 2102.06171): clip everything but the head.

    Keys: ``clipping``, the largest ratio of the norm of a gradient to that of its parameter, and ``None`` for the
    weight and bias of the last layer; ``channel_dims`` and ``channel_groups``, the blocks of invariant weights, over
    which a ratio means most. ``channel_dims=None`` leaves the paper's unit, one per output.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
        >>> groups = agc(analyze(model, torch.zeros(3, 4)), model)
        >>> [(g["param_names"], g["clipping"]) for g in groups]
        [(['0.weight'], 0.01), (['2.weight'], None)]
    """
    check_number("clipping", clipping, "a finite number >= 0")
    last = {p.depth for p in report.parameters.values() if p.role == "head"}

    def clip(found: ParameterReport) -> dict[str, Any]:
        in_head = "head" in found.roles or (found.role == "bias" and found.depth in last)
        return {"clipping": None if in_head else float(clipping)}

    return _groups(report, model, [partition_policy, clip, decay_policy(weight_decay)], **common)


def adamw(
    report: Report,
    model: nn.Module,
    *,
    weight_decay: float,
    decay_invariant: bool = False,
    **common: Unpack[Common],
) -> Groups:
    """Groups for AdamW and its relatives (Loshchilov and Hutter, arXiv 1711.05101): decay only where it regularizes.

    Key: ``weight_decay``, which is 0 for norms, biases and other vectors, and for scale-invariant weights: there it
    would only raise the effective learning rate. ``decay_invariant=True`` is the usual split of weights and the rest.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> groups = adamw(analyze(model, torch.zeros(4, 3, 3, 3)), model, weight_decay=0.1)
        >>> [g["param_names"] for g in groups if g["weight_decay"]]
        [['3.weight']]
    """
    return _groups(report, model, [decay_policy(weight_decay, decay_invariant=decay_invariant)], **common)


def adamc(report: Report, model: nn.Module, *, weight_decay: float, **common: Unpack[Common]) -> Groups:
    """Groups for AdamC (Defazio, arXiv 2506.02285): decay that follows the learning rate, for invariant weights only.

    Decay and gradient of a scale-invariant weight balance at a norm that depends on the learning rate; as a schedule
    lowers the rate, gradients grow. AdamC scales the decay of such weights by ``lr / max_lr`` once more.

    Keys: ``weight_decay``; ``normalized``, which pytorch_optimizer's AdamC reads. That class takes ``max_lr`` from its
    own ``lr``: build it with the peak rate, and warm up by a scheduler. With ``layer_decay`` and ``lr`` the smaller
    rate of an early layer counts as a lowered one.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> groups = adamc(analyze(model, torch.zeros(4, 3, 3, 3)), model, weight_decay=0.1)
        >>> [(g["param_names"], g["normalized"]) for g in groups if g["weight_decay"]]
        [(['0.weight'], True), (['3.weight'], False)]
    """

    def normalized(found: ParameterReport) -> dict[str, Any]:
        return {"normalized": found.verdict == "invariant"}

    return _groups(report, model, [normalized, decay_policy(weight_decay)], **common)


def muon(
    report: Report,
    model: nn.Module,
    *,
    weight_decay: float | None = None,
    kernels: bool = False,
    stacks: bool = False,
    **common: Unpack[Common],
) -> Groups:
    """Groups for Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): hidden matrices, and all the rest.

    Keys: ``use_muon``, True for matrices that are neither embedding nor head, is what single-class Muons read:
    pytorch_optimizer's, timm's, and Keller Jordan's, which refuses other keys, so drop ``param_names`` and ``splits``
    for it. In groups with ``use_muon``, ``splits``: the logical matrices of a fused parameter, such as the queries,
    keys and values of one projection, as dicts ``{"dim": 0, "rows": [[0, 64]], "matrices": 1}``; empty for a single
    matrix. A Muon that does not read ``splits`` orthogonalizes the fused matrix as a whole. For ``torch.optim`` see
    ``muon_and_adamw``.

    Args:
        report: the analysis of the model.
        model: the model.
        weight_decay: as in ``autogroup.groups.param_groups``.
        kernels: also convolution kernels, for Muons that flatten all dims but the first, as most do but
            ``torch.optim.Muon``. A depthwise kernel is a stack of vectors and stays out.
        stacks: also linear weights of three or more dims, such as the experts of a mixture. Only for Muons that take
            leading dims as a batch of matrices: flattened, the experts would be mixed.
        **common: as for all recipes.

    Returns:
        Groups as from ``autogroup.groups.grouped``.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 9))
        >>> groups = muon(analyze(model, torch.zeros(2, 3, dtype=torch.int64)), model)
        >>> [g["param_names"] for g in groups if g["use_muon"]]
        [['1.weight']]
    """

    def matrices(found: ParameterReport) -> dict[str, Any]:
        if not _is_hidden_matrix(found, kernels=kernels, stacks=stacks):
            return {"use_muon": False}
        splits = [{"dim": s.dim, "rows": [list(r) for r in s.rows], "matrices": s.matrices} for s in found.splits]
        return {"use_muon": True, "splits": splits}

    return _groups(report, model, [matrices, decay_policy(weight_decay)], **common)


def muon_and_adamw(
    report: Report, model: nn.Module, *, weight_decay: float | None = None, **common: Unpack[Common]
) -> tuple[Groups, Groups]:
    """Groups for ``torch.optim.Muon``, which takes only matrices, and for ``torch.optim.AdamW`` with all the rest.

    The same as ``muon``, without kernels and stacks, in two lists; either may be empty. Each optimizer has its own
    learning rate, so with ``layer_decay`` leave out ``lr`` and scale those of the groups by their ``lr_scale``.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 9))
        >>> report = analyze(model, torch.zeros(2, 3, dtype=torch.int64))
        >>> matrices, rest = muon_and_adamw(report, model, weight_decay=0.1)
        >>> optimizers = torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=3e-4)
    """
    groups = muon(report, model, weight_decay=weight_decay, **common)
    return [g for g in groups if g["use_muon"]], [g for g in groups if not g["use_muon"]]


def lars(report: Report, model: nn.Module, *, weight_decay: float, **common: Unpack[Common]) -> Groups:
    """Groups for LARS (You et al., arXiv 1708.03888): norms, biases and other vectors without decay and trust ratio.

    Key: ``weight_decay``, 0 for the excluded ones. timm's Lars takes a group with decay 0 as excluded from the trust
    ratio as well; pytorch_optimizer's LARS excludes all vectors by itself.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> groups = lars(analyze(model, torch.zeros(3, 4)), model, weight_decay=1e-4)
        >>> [g["param_names"] for g in groups if g["weight_decay"]]
        [['0.weight', '2.weight']]
    """
    return _groups(report, model, [decay_policy(weight_decay)], **common)


def lamb(report: Report, model: nn.Module, *, weight_decay: float, **common: Unpack[Common]) -> Groups:
    """Groups for LAMB (You et al., arXiv 1904.00962): norms, biases and other vectors without decay and trust ratio.

    Keys: ``weight_decay``, 0 for the excluded ones, which is how timm's Lamb and apex's FusedLAMB know them; ``adam``,
    True for them: pytorch_optimizer's Lamb takes a trust ratio of 1 there.

    Example:
        >>> from autogroup import analyze
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> groups = lamb(analyze(model, torch.zeros(3, 4)), model, weight_decay=1e-2)
        >>> [g["param_names"] for g in groups if g["adam"]]
        [['0.bias', '1.weight', '1.bias', '2.bias']]
    """

    def trust(found: ParameterReport) -> dict[str, Any]:
        return {"adam": not is_weight(found)}

    return _groups(report, model, [trust, decay_policy(weight_decay)], **common)


def _groups(report: Report, model: nn.Module, policies: Iterable[Policy], **common: Unpack[Common]) -> Groups:
    """Group by the policies of a family and by depth."""
    depth = depth_policy(report, layer_decay=common.get("layer_decay"), lr=common.get("lr"))
    return grouped(report, model, [*policies, depth], common.get("overrides"))


def _is_hidden_matrix(found: ParameterReport, *, kernels: bool, stacks: bool) -> bool:
    """Whether Muon orthogonalizes a parameter; one that is also an embedding or the head is left to the rest."""
    if found.role not in ("linear", "conv") or {"embedding", "head"} & set(found.roles):
        return False
    if len(found.shape) == 2:
        return True
    rows, columns = found.shape[0], math.prod(found.shape[1:])
    if found.role == "conv":
        return kernels and found.shape[1] > 1 and min(rows, columns) > 1
    return stacks and len(found.shape) > 2
