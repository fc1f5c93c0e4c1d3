"""Build an ``fx.Graph`` from a serialized exported program: placeholders, operator calls, spliced wrappers."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import HigherOrderOperator, OpOverload

from autogroup.capture import Capture
from autogroup.capture.liveness import remove_dead_code
from autogroup.capture.schema import schema_arguments
from autogroup.readers.exported_mode import as_batch_norm, recorded_mode
from autogroup.readers.serialized import Json, UnsupportedError, decode, empty, module_of, number, single, source_of

_TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?")
_READ_OUTPUTS = ("user_output", "loss_output")
_ASSERTION = re.compile(r"torch\.ops\.aten\.(_assert|sym_constrain).*")
_INLINED = re.compile(r"torch\.ops\.higher_order\.(wrap_\w+|tag_activation_checkpoint|invoke_subgraph|hints_wrapper)")


class GraphBuilder:
    """Turns one serialized graph module into an ``fx.Graph``; never into a module, which would generate code."""

    def __init__(self, module: Json, weights: Json, constants: Mapping[str, Tensor]) -> None:
        """Take the graph module, the index of the weights, and the values of the constants that could be read."""
        self.module = module
        self.weights = weights
        self.values = constants
        self.graph = fx.Graph()
        self.modes: set[bool] = set()
        self.higher_order: set[str] = set()
        self.parameters: dict[str, fx.Node] = {}
        self.aliases: dict[str, tuple[str, ...]] = {}
        self.buffers: dict[str, fx.Node] = {}
        self.inputs: list[fx.Node] = []
        self.constants: dict[str, Tensor] = {}

    def capture(self, version: str) -> Capture:
        """Build everything and say how it came about."""
        serialized: Json = self.module["graph"]
        names: dict[str, Any] = {}
        self._inputs(serialized, names)
        outputs = zip(self._nodes(serialized, names), self.module["signature"]["output_specs"], strict=True)
        # A functional graph also returns the new running statistics, which are no part of a loss.
        self.graph.output(tuple(node for node, spec in outputs if single(spec)[0] in _READ_OUTPUTS))
        mode = "train" if True in self.modes or not self.modes else "eval"
        remove_dead_code(self.graph)
        return Capture(
            graph=self.graph,
            parameters=self.parameters,
            aliases=self.aliases,
            buffers=self.buffers,
            trainable=frozenset(name for name, node in self.parameters.items() if node.meta["val"].requires_grad),
            method="export",
            mode=mode,
            notes=self._notes(mode, version),
            inputs=tuple(self.inputs),
            constants=self.constants,
        )

    def _inputs(self, serialized: Json, names: dict[str, Any]) -> None:
        """Add the placeholders, then the constants: a tied parameter once, a plain number as itself."""
        first_name: dict[str, str] = {}
        constants: dict[str, str] = {}
        for argument, spec in zip(serialized["inputs"], self.module["signature"]["input_specs"], strict=True):
            kind, content = single(spec)
            tag, value = single(argument)
            if tag.startswith("as_sym"):
                names[value["as_name"]] = number(serialized[f"{tag[3:]}_values"][value["as_name"]])
            elif tag == "as_custom_obj":
                raise UnsupportedError(f"it takes an object of class {value.get('class_fqn')}, not only tensors")
            elif tag == "as_tensor" and kind == "tensor_constant":
                constants[value["name"]] = content["tensor_constant_name"]
            elif tag == "as_tensor" and kind == "parameter":
                fqn: str = content["parameter_name"]
                first = first_name.setdefault(self._storage(fqn), fqn)
                if first == fqn:
                    self.parameters[fqn] = self._placeholder(value["name"], serialized)
                names[value["name"]] = self.parameters[first]
            elif tag == "as_tensor":
                node = names[value["name"]] = self._placeholder(value["name"], serialized)
                if kind == "buffer":
                    self.buffers[content["buffer_name"]] = node
                else:
                    self.inputs.append(node)
        # A strict export drops the other names of a tied parameter from the graph; the index of weights has them all.
        for fqn, entry in self.weights.items():
            first = first_name.get(self._storage(fqn), fqn)
            if first != fqn and entry["is_param"]:
                self.aliases[first] = (*self.aliases.get(first, ()), fqn)
        for name, fqn in constants.items():
            names[name] = self._constant(name, self.values.get(fqn), serialized)

    def _placeholder(self, name: str, serialized: Json) -> fx.Node:
        node = self.graph.placeholder(_identifier(name))
        node.meta.update(val=empty(serialized["tensor_values"][name]), module="", source="")
        return node

    def _constant(self, name: str, value: Tensor | None, serialized: Json) -> fx.Node:
        node = self.graph.create_node("get_attr", _identifier(name))
        node.meta.update(val=empty(serialized["tensor_values"][name]), module="", source="")
        self.constants[str(node.target)] = node.meta["val"] if value is None else value
        return node

    def _notes(self, mode: str, version: str) -> tuple[str, ...]:
        notes = [f"read from an exported program (torch {version})"]
        if mode == "eval":
            notes.append("exported in evaluation mode, in which norms with running statistics absorb no scale")
        elif False in self.modes:
            notes.append("some norms were exported in evaluation mode: they use running statistics and absorb no scale")
        if self.module["graph"].get("sym_int_values"):
            notes.append("dynamic sizes are analyzed at the sizes of the example inputs")
        if self.higher_order:
            notes.append(f"control flow is not looked into: {', '.join(sorted(self.higher_order))}")
        return tuple(notes)

    def _storage(self, fqn: str) -> str:
        """Return a key that tied parameters share: the stored bytes and how they are viewed."""
        entry = self.weights.get(fqn)
        if not entry or not entry.get("tensor_meta"):
            return fqn
        meta = entry["tensor_meta"]
        return json.dumps([entry["path_name"], meta["storage_offset"], meta["sizes"], meta["strides"]])

    def _nodes(self, serialized: Json, names: dict[str, Any]) -> list[Any]:
        """Add the operators of a graph or subgraph and return its outputs."""
        for kind in ("sym_int", "sym_float", "sym_bool"):
            for name, value in serialized.get(f"{kind}_values", {}).items():
                if "as_expr" not in value or value["as_expr"].get("hint"):
                    names[name] = number(value)
        for node in serialized["nodes"]:
            target: str = node["target"]
            tags = {single(output)[0] for output in node["outputs"]}
            if (tags and all(tag.startswith("as_sym") for tag in tags)) or _ASSERTION.match(target):
                continue
            if _INLINED.fullmatch(target):
                self._inline(node, names)
            else:
                self._call(node, serialized, names)
        return [decode(output, names) for output in serialized["outputs"]]

    def _inline(self, node: Json, names: dict[str, Any]) -> None:
        """Splice the body of a wrapper (no_grad, autocast, checkpoint) into the graph: it computes nothing itself."""
        arguments = [item["arg"] for item in node["inputs"]]
        where = next(i for i, argument in enumerate(arguments) if "as_graph" in argument)
        body: Json = arguments[where]["as_graph"]["graph"]
        formal = [single(argument)[1] for argument in body["inputs"]]
        actual = [a for a in arguments[where + 1 :] if "as_string" not in a][-len(formal) :] if formal else []
        scope = {f["name"]: decode(a, names) for f, a in zip(formal, actual, strict=True) if "name" in f}
        results = self._nodes(body, scope)
        for name, result in zip(_output_names(node), _flat(results), strict=True):
            names[name] = result

    def _call(self, node: Json, serialized: Json, names: dict[str, Any]) -> None:
        """Add one operator call and, if it has several results, one ``getitem`` per result."""
        target = _resolve(node["target"])
        if isinstance(target, OpOverload):
            args, kwargs = _arguments(target, node["inputs"], names)
            self._note_mode(target, args, kwargs)
        else:
            args = tuple(decode(i["arg"], names) for i in node["inputs"] if "as_graph" not in i["arg"])
            kwargs = {}
            self.higher_order.add(node["target"].removeprefix("torch.ops."))
        call = self.graph.call_function(target, args, kwargs)
        where = {"module": module_of(node["metadata"]), "source": source_of(node["metadata"])}
        call.meta.update(where)
        outputs = _output_names(node)
        values = [empty(serialized["tensor_values"][n]) if n else None for n in outputs]
        tags = [single(output)[0] for output in node["outputs"]]
        if tags == ["as_tensor"]:
            call.meta["val"] = values[0]
            names[outputs[0]] = call
            return
        call.meta["val"] = values if tags == ["as_tensors"] else tuple(values)
        plain = as_batch_norm(target, args)
        for index, (name, value) in enumerate(zip(outputs, values, strict=True)):
            if plain is not None and not index:
                norm = names[name] = self.graph.call_function(torch.ops.aten.batch_norm.default, plain)
                norm.meta.update(where, val=value)
                continue
            item = self.graph.call_function(operator.getitem, (call, index))
            item.meta.update(where, val=value)
            names[name] = item

    def _note_mode(self, target: OpOverload, args: tuple[Any, ...], kwargs: Json) -> None:
        """Remember whether an operator was recorded in training or in evaluation mode."""
        flag = recorded_mode(target, args, kwargs)
        if flag is not None:
            self.modes.add(flag)


def _identifier(name: str) -> str:
    """Return a harmless name: fx writes names into source code when a graph is compiled."""
    return re.sub(r"\W", "_", name) or "unnamed"


def _output_names(node: Json) -> list[str]:
    """Return the names a node's results are known by; ``""`` for a result that is absent."""
    names: list[str] = []
    for output in node["outputs"]:
        tag, value = single(output)
        if tag == "as_tensors":
            names.extend(v["name"] for v in value)
        elif tag in ("as_tensor", "as_custom_obj"):
            names.append(value["name"])
        elif tag.startswith("as_sym"):
            names.append(value["as_name"])
        elif tag == "as_none":
            names.append("")
        else:
            raise UnsupportedError(f"{node['target']} returns a value of kind {tag}")
    return names


def _flat(values: list[Any]) -> list[Any]:
    return [leaf for value in values for leaf in (_flat(value) if isinstance(value, list) else [value])]


def _arguments(target: OpOverload, inputs: list[Json], names: dict[str, Any]) -> tuple[Any, Json]:
    """Order the named inputs of a call as the operator's schema has them."""
    given = {item["name"]: item for item in inputs}
    args: list[Any] = []
    kwargs: Json = {}
    for argument in schema_arguments(target):
        item = given.pop(argument.name, None)
        if item is None:
            continue
        value = decode(item["arg"], names)
        positional = item.get("kind") == 1 or (not item.get("kind") and not argument.has_default_value())
        if positional and not argument.kwarg_only:
            args.append(value)
        else:
            kwargs[argument.name] = value
    if given:
        raise UnsupportedError(f"{target} has no argument named {', '.join(sorted(given))}")
    return tuple(args), kwargs


def _resolve(name: str) -> Callable[..., Any]:
    """Return the operator of that name, or a stand-in that the analysis reports as unknown."""
    match = _TARGET.fullmatch(name)
    found: Any = torch.ops
    for part in match.groups() if match else ():
        found = getattr(found, part, None) if part else found
    if isinstance(found, (OpOverload, HigherOrderOperator)):
        return found

    def missing(*_: Any) -> Tensor:
        raise UnsupportedError(f"the operator {name} is not installed")

    missing.__name__ = missing.__qualname__ = name.removeprefix("torch.ops.")
    return missing
