"""Where everything stands in the picture of the page: cards of a few modules each, set in columns like a newspaper.

A card lists its parameters in model order on the left and the norms that absorb them on the right. It holds a module
with all below it if that is small, else only what the module itself holds; small neighbours share one.
All lengths are in the units of the drawing, about a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autogroup.render.console import shape_text
from autogroup.render.graph.network import Norm, norm_keys, norm_of
from autogroup.render.modules import Module, module_tree
from autogroup.report import Report

MOST_ROWS = 16
"""A module with more parameters is spread over several cards."""
ROW, HEAD, PAD, GAP = 21, 32, 12, 20
NORM_WIDTH, BETWEEN = 126, 46
NARROWEST, WIDEST = 150, 270
"""Bounds of the width of a parameter."""
LETTER, DIGIT, MARGIN = 6.7, 5.9, 34
"""Width of a letter of a name, of one of a shape, and what else stands beside them."""
VIEW = 820, 560
"""Width and height of the part of a window that shows the drawing."""


@dataclass
class Card:
    """A frame in the picture.

    Args:
        name: FQN of the module that it shows, all or a part of.
        modules: FQNs of the modules whose own parameters it holds.
        parameters: names, from top to bottom.
    """

    name: str
    modules: list[str] = field(default_factory=list[str])
    parameters: list[str] = field(default_factory=list[str])
    norms: dict[Norm, float] = field(default_factory=dict[Norm, float])
    """Norm -> its row; rows of norms may be fractions."""
    x: float = 0
    y: float = 0

    @property
    def height(self) -> float:
        """Height with head and margins."""
        rows = max([len(self.parameters), *(row + 1 for row in self.norms.values())])
        return HEAD + ROW * rows + PAD


@dataclass(frozen=True)
class Layout:
    """The cards with their places, and the size of the whole."""

    cards: tuple[Card, ...]
    parameter_width: float
    card_width: float
    width: float
    height: float


def lay_out(report: Report) -> Layout:
    """Place the parameters and norms of a report.

    Example:
        >>> from autogroup.report import ParameterReport
        >>> names = [f"{block}.{i}.weight" for block in "ab" for i in range(12)]
        >>> layout = lay_out(Report({name: ParameterReport(name, (2,), "variant", "") for name in names}))
        >>> [card.name for card in layout.cards]
        ['a', 'b']
    """
    cards = [part for card in _cards(module_tree(report.parameters.values())) for part in _cut(card)]
    _place_norms(cards, report)
    parameter_width = _parameter_width(cards, report)
    card_width = 2 * PAD + parameter_width + (BETWEEN + NORM_WIDTH if report.relations else 0)
    width, height = _set_in_columns(cards, card_width)
    return Layout(tuple(cards), parameter_width, card_width, width, height)


def _set_in_columns(cards: Sequence[Card], card_width: float) -> tuple[float, float]:
    """Place the cards in the columns that show them largest, and return the size of the whole."""
    if not cards:
        return 0.0, 0.0
    total, tallest = sum(card.height + GAP for card in cards), max(card.height for card in cards)
    slack = (1.0, 1.1, 1.25)
    most_columns = 3 * math.isqrt(len(cards)) + 1
    limits = sorted({max(tallest, total / n * more) for n in range(1, most_columns + 1) for more in slack})

    def size(longest: float) -> tuple[float, float]:
        return _fill_columns(cards, card_width, longest)

    def scale(longest: float) -> float:
        width, height = size(longest)
        return min(VIEW[0] / width, VIEW[1] / height)

    return size(max(limits, key=scale))


def _fill_columns(cards: Sequence[Card], card_width: float, longest: float) -> tuple[float, float]:
    """Place the cards in columns that are not longer than this, and return the size of the whole."""
    x = y = bottom = 0.0
    for card in cards:
        if y and y + card.height > longest:
            x, y = x + card_width + GAP, 0.0
        card.x, card.y = x, y
        y += card.height + GAP
        bottom = max(bottom, y - GAP)
    return x + card_width, bottom


def _parameter_width(cards: Sequence[Card], report: Report) -> float:
    """Room for the longest name, without the part that stands on its card, and its shape."""
    wanted = 0.0
    for card in cards:
        for name in card.parameters:
            label = name.removeprefix(f"{card.name}.") if card.name else name
            shape = shape_text(report.parameters[name].shape)
            wanted = max(wanted, MARGIN + LETTER * len(label) + DIGIT * len(shape))
    return min(max(wanted, NARROWEST), WIDEST)


def _cards(module: Module) -> Iterable[Card]:
    """Cut a module into cards, in model order."""
    everything = module.everything()
    if len(everything) <= MOST_ROWS:
        if everything:
            yield Card(module.name, _below(module), [p.name for p in everything])
        return
    shared = Card(module.name, [module.name], [p.name for p in module.parameters.values()])
    for child in module.children.values():
        inside = child.everything()
        if child.children or len(shared.parameters) + len(inside) > MOST_ROWS:
            yield from _closed(shared)
            shared = Card(module.name)
        if child.children:
            yield from _cards(child)
        else:
            shared.modules.append(child.name)
            shared.parameters += [p.name for p in inside]
    yield from _closed(shared)


def _closed(card: Card) -> Iterable[Card]:
    """A card for several small modules; one for a single module is called by its name."""
    if card.parameters:
        if len(card.modules) == 1:
            card.name = card.modules[0]
        yield card


def _below(module: Module) -> list[str]:
    return [module.name, *(name for child in module.children.values() for name in _below(child))]


def _cut(card: Card) -> Iterable[Card]:
    """A card of a module with very many parameters of its own, in pieces."""
    most = 2 * MOST_ROWS
    yield Card(card.name, card.modules, card.parameters[:most])
    for start in range(most, len(card.parameters), most):
        yield Card(card.name, [], card.parameters[start : start + most])


def _place_norms(cards: Sequence[Card], report: Report) -> None:
    """Put every norm beside the parameters that it absorbs, in the card of its module where there is one."""
    of_module = {name: card for card in reversed(cards) for name in card.modules}
    of_parameter = {name: card for card in cards for name in card.parameters}
    absorbed: dict[Norm, list[str]] = {norm: [] for norm in norm_keys(report)}
    for relation in report.relations:
        absorbed[norm_of(relation)].append(relation.parameter)
    wanted: dict[int, list[tuple[float, Norm]]] = {}
    for norm, names in absorbed.items():
        card = of_module.get(norm[0], of_parameter[names[0]])
        rows = [card.parameters.index(name) for name in names if of_parameter[name] is card]
        wanted.setdefault(id(card), []).append((sum(rows) / len(rows) if rows else 0.0, norm))
    for card in cards:
        free = 0.0
        for row, norm in sorted(wanted.get(id(card), []), key=lambda item: item[0]):
            card.norms[norm] = max(row, free)
            free = card.norms[norm] + 1
