"""Findings: the rules are run over the graph, and everything that is found of a parameter is put together."""

from __future__ import annotations

from fractions import Fraction

from torch import fx

from autogroup.algebra.blocks import Blocks
from autogroup.algebra.domain import Dependence, Factor, Key, Value
from autogroup.algebra.labels import fresh_terms
from autogroup.capture import Capture
from autogroup.infer.depth import depth
from autogroup.infer.initial import constant_zeros, initial_grid
from autogroup.infer.interpret import Interpreter
from autogroup.infer.joint import with_partners
from autogroup.infer.paths import Paths
from autogroup.infer.roles import roles
from autogroup.infer.splits import splits
from autogroup.infer.symmetries import symmetries
from autogroup.infer.verdict import judge
from autogroup.report import ParameterReport, Relation, Report


def infer(capture: Capture) -> Report:
    """Find, for every parameter, the finest partition over which the loss is scale-invariant.

    Args:
        capture: a graph from ``autogroup.capture``.

    Returns:
        The report: one entry per parameter, in model order.

    Raises:
        RuleError: a rule of this package failed.

    Example:
        >>> import torch
        >>> from autogroup.capture import capture
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 6, bias=False), torch.nn.LayerNorm(6))
        >>> infer(capture(model, (torch.zeros(3, 4),), {})).parameters["0.weight"].channel_dims
        ()
    """
    blocks: dict[str, Blocks] = {}
    seeds: dict[fx.Node, Value] = {}
    for number, (name, node) in enumerate(capture.parameters.items()):
        shape = tuple(node.meta["val"].shape)
        blocks[name] = Blocks(name, shape, initial_grid(node))
        start = Dependence((Factor(Fraction(1), blocks[name].grid),))
        deps = {Key(blocks[name], "scale"): start}
        if sum(n > 1 for n in shape) <= 1:  # a bias, a gain, a shift: larger tensors do more than translate
            terms = fresh_terms(number, shape)
            blocks[name].translates = terms is not None and bool(terms.numel())
            deps[Key(blocks[name], "shift")] = Dependence((), terms)
        seeds[node] = Value(shape, deps, name=-1 - number)
    seeds |= constant_zeros(capture)
    interpreter = Interpreter(capture.graph, seeds, assumed_sizes=capture.method == "symbolic")
    interpreter.escape_outputs(interpreter.run())
    paths = Paths(capture.graph, interpreter.memory.hidden_edges)
    found_roles, depths, found_splits = roles(capture), depth(capture), splits(capture)
    parameters: dict[str, ParameterReport] = {}
    for name, node in capture.parameters.items():
        judgement = judge(blocks[name], node, paths)
        parameters[name] = ParameterReport(
            name=name,
            shape=blocks[name].shape,
            verdict=judgement.verdict,
            reason=judgement.reason,
            partition=judgement.partition,
            role=found_roles[name][0],
            other_roles=found_roles[name][1:],
            depth=depths[name],
            splits=found_splits[name],
            norms=judgement.norms,
            aliases=capture.aliases.get(name, ()),
            trainable=name in capture.trainable,
            eps=blocks[name].eps and judgement.partition is not None,
            path=judgement.path,
        )
    relations = [
        Relation(p.name, norm, step.operator, step.source)
        for p in parameters.values()
        for norm in p.norms
        for step in p.path[-1:]
    ]
    found_symmetries = symmetries(capture, parameters)
    return Report(
        parameters=with_partners(parameters, found_symmetries),
        relations=tuple(relations),
        symmetries=found_symmetries,
        unknown_ops=dict(interpreter.unknown_ops.most_common()),
        capture={"method": capture.method, "mode": capture.mode, "notes": list(capture.notes)},
    )
