"""Report: what the analysis found, as frozen plain data that survives a trip through JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from autogroup.errors import LoadError
from autogroup.groups import param_groups
from autogroup.partition import Partition
from autogroup.symmetry import Symmetry

Verdict = Literal["invariant", "partial", "joint", "dead", "variant", "unknown", "unused"]
"""What can be said of a parameter; see ``docs`` for the definition of each word."""

Role = Literal["norm_scale", "norm_shift", "bias", "embedding", "head", "conv", "linear", "other"]
"""What a parameter does in the graph, independent of its verdict."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ROLES: tuple[Role, ...] = get_args(Role)
SCHEMA = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on the way from a parameter to the place that decided its verdict."""

    operator: str
    """ATen overload, e.g. ``aten.conv2d.default``."""
    module: str
    """FQN of the innermost module that called it, ``""`` for the root."""
    source: str
    """``file.py:line`` of the user's code, ``""`` if unknown."""
    note: str = ""
    """What happened to the parameter's scale here, in words."""


@dataclass(frozen=True, slots=True)
class Split:
    """A logical matrix, or several of one size, inside a fused parameter: the rows that one consumer reads."""

    dim: int
    """Dim of the parameter along which the rows are counted."""
    rows: tuple[tuple[int, int], ...]
    """Half-open ranges along ``dim``, in order."""
    consumer: str
    """Operator and argument that read these rows, e.g. ``scaled_dot_product_attention.query``."""
    module: str
    """FQN of the module that calls the consumer."""
    matrices: int = 1
    """Number of equal parts that the consumer treats as separate matrices: heads, experts."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A parameter and one normalization that absorbs its scale."""

    parameter: str
    norm: str
    """FQN of the module in which the scale is absorbed."""
    operator: str
    source: str


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """All that is known of one parameter.

    ``partition`` is the exact finest partition of an ``invariant`` or ``partial`` parameter, and of a ``joint`` one
    the blocks it is scaled over together with its ``partners``; else ``None``.
    """

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    reason: str
    partition: Partition | None = None
    role: Role = "other"
    other_roles: tuple[Role, ...] = ()
    """Further roles of a parameter that is used in several ways, such as an embedding tied to the head."""
    norms: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    trainable: bool = True
    eps: bool = False
    """Whether the claim holds only up to a literal eps added in the model's own code."""
    path: tuple[Step, ...] = ()
    depth: int = 0
    """Number of layers that run before this parameter is first used; see ``autogroup.infer.depth``."""
    splits: tuple[Split, ...] = ()
    """The logical matrices of a fused parameter; empty if it is a single one."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every role, the leading one first."""
        return (self.role, *self.other_roles)

    @property
    def channel_dims(self) -> tuple[int, ...] | None:
        """Dims whose index names the block; ``None`` unless the verdict is ``invariant``."""
        return self.partition.keys()[0] if self.verdict == "invariant" and self.partition else None

    @property
    def channel_groups(self) -> int | None:
        """Number of contiguous blocks the first of ``channel_dims`` is cut into, or ``None``."""
        return self.partition.keys()[1] if self.verdict == "invariant" and self.partition else None

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of dim 0 that are invariant, for a ``partial`` parameter."""
        return self.partition.rows if self.verdict == "partial" and self.partition else ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; the derived keys are included for readers of the file."""
        data: dict[str, Any] = {"name": self.name, "shape": list(self.shape), "verdict": self.verdict}
        data["channel_dims"] = None if self.channel_dims is None else list(self.channel_dims)
        data["channel_groups"] = self.channel_groups
        data |= {"role": self.role, "other_roles": list(self.other_roles), "depth": self.depth}
        data |= {"reason": self.reason, "norms": list(self.norms)}
        data |= {"partners": list(self.partners), "aliases": list(self.aliases)}
        data |= {"trainable": self.trainable, "eps": self.eps}
        data["rows"] = [list(r) for r in self.rows]
        data["partition"] = self.partition.to_dict() if self.partition else None
        data["splits"] = [asdict(split) | {"rows": [list(r) for r in split.rows]} for split in self.splits]
        data["path"] = [asdict(step) for step in self.path]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ParameterReport:
        """Rebuild what ``to_dict`` wrote."""
        return cls(
            name=data["name"],
            shape=tuple(data["shape"]),
            verdict=data["verdict"],
            reason=data["reason"],
            partition=Partition.from_dict(data["partition"]) if data["partition"] else None,
            role=data["role"],
            other_roles=tuple(data["other_roles"]),
            depth=data["depth"],
            norms=tuple(data["norms"]),
            partners=tuple(data["partners"]),
            aliases=tuple(data["aliases"]),
            trainable=data["trainable"],
            eps=data["eps"],
            path=tuple(Step(**step) for step in data["path"]),
            splits=tuple(Split(**s | {"rows": tuple((a, b) for a, b in s["rows"])}) for s in data["splits"]),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The analysis of one model.

    Args:
        parameters: FQN → what is known of it, in the order of ``model.named_parameters()``.
        relations: every (parameter, norm) pair.
        unknown_ops: operators without a rule that a parameter's scale ran into → how often.
        capture: how the graph was captured: ``method``, ``mode``, and any notes.
        symmetries: every rescaling of parameters that leaves the loss unchanged: sums of those listed hold too.
    """

    parameters: Mapping[str, ParameterReport]
    relations: tuple[Relation, ...] = ()
    unknown_ops: Mapping[str, int] = field(default_factory=dict[str, int])
    capture: Mapping[str, Any] = field(default_factory=dict[str, Any])
    symmetries: tuple[Symmetry, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return verdict → number of parameters, in the order of ``VERDICTS``, without zeros."""
        found = Counter(p.verdict for p in self.parameters.values())
        return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}

    def only(self, verdicts: Iterable[str]) -> tuple[ParameterReport, ...]:
        """Return the parameters with one of the given verdicts, in model order."""
        wanted = set(verdicts)
        return tuple(p for p in self.parameters.values() if p.verdict in wanted)

    def symmetries_of(self, name: str) -> tuple[Symmetry, ...]:
        """Return the symmetries that move a parameter."""
        return tuple(s for s in self.symmetries if name in s.parameters)

    def param_groups(
        self,
        model: nn.Module,
        *,
        weight_decay: float | None = None,
        decay_invariant: bool = True,
        layer_decay: float | None = None,
        lr: float | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Sort the trainable parameters of ``model`` into groups; see ``autogroup.groups.param_groups``."""
        return param_groups(
            self,
            model,
            weight_decay=weight_decay,
            decay_invariant=decay_invariant,
            layer_decay=layer_decay,
            lr=lr,
            overrides=overrides,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data that ``from_dict`` reads back without loss."""
        return {
            "schema": SCHEMA,
            "capture": dict(self.capture),
            "unknown_ops": dict(self.unknown_ops),
            "parameters": [p.to_dict() for p in self.parameters.values()],
            "relations": [asdict(r) for r in self.relations],
            "symmetries": [s.to_dict() for s in self.symmetries],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Rebuild what ``to_dict`` wrote; raises ``LoadError`` on data of another schema."""
        if data.get("schema") != SCHEMA:
            raise LoadError(f"this is no autogroup report of schema {SCHEMA} (found schema={data.get('schema')!r})")
        parameters = [ParameterReport.from_dict(p) for p in data["parameters"]]
        return cls(
            parameters={p.name: p for p in parameters},
            relations=tuple(Relation(**r) for r in data["relations"]),
            symmetries=tuple(Symmetry.from_dict(s) for s in data["symmetries"]),
            unknown_ops=dict(data["unknown_ops"]),
            capture=dict(data["capture"]),
        )

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report written by ``save``."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
