"""Makes a graph's signature from the signatures of the models that it calls.

If a call may reach several versions, or a switch has several cases, the graph has the outputs that all of them have,
and requires the inputs that any of them requires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from turnout.manifest.schema import Finding
from turnout.plan.checks.tensor_unions import ClashError, all_of, any_of, combine_tensors, spell_tensor
from turnout.protocol.routing.graph_nodes import EVERY_OUTPUT, CallNode, EnsembleNode, Node, SequenceNode, SwitchNode
from turnout.protocol.tensors.datatypes import DATATYPES, Signature, TensorSpec
from turnout.wording import listed
from turnout.yaml_text.reader import KeyPath

SignaturesOf = Callable[[CallNode], Sequence[Signature]]
"""Returns the signatures of every version that a call may reach; none if they are unknown, which is reported
elsewhere.
"""

Tensors = Mapping[str, TensorSpec]

Condition = tuple[str, str | float | bool]
"""A case's word, `equals`, `below` or `above`, and its value."""

KIND_OF_VALUE: Mapping[type, str] = {str: "bytes", bool: "bool", int: "number", float: "number"}
"""The kinds of inputs that a case's value can be compared with."""

DATATYPE_OF_KIND = {"bytes": "BYTES", "bool": "BOOL", "number": "FP64"}
"""The datatype of a switch's input that no model has."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A node's inputs and outputs, by name.

    Args:
        inputs: the tensors that its models need.
        outputs: the tensors that it returns.
        compared: each input of a switch -> the values of its cases, all of one kind.
    """

    inputs: Tensors
    outputs: Tensors
    compared: Mapping[str, tuple[Condition, ...]] = field(default_factory=dict)


class UnknownError(Exception):
    """Nothing can be said about the graph: it calls something unknown."""


def signature_of_graph(
    node: Node, signatures_of: SignaturesOf, path: KeyPath = ()
) -> tuple[Signature | None, tuple[Finding, ...]]:
    """Return the graph's signature and its conflicts; the signature is None if it is unknown.

    Args:
        node: the graph's outermost node.
        signatures_of: returns the signatures of every version that a call may reach.
        path: the keys of the node, for the findings.
    """
    walk = _Walk(signatures_of)
    try:
        flow = walk.flow(node, path)
    except UnknownError:
        return None, tuple(walk.findings)
    walk.check_compared(flow.inputs, flow.compared, path)
    decided = (TensorSpec(name, DATATYPE_OF_KIND[_kind_of(tests)], None) for name, tests in flow.compared.items())
    inputs = {tensor.name: tensor for tensor in decided} | dict(flow.inputs)
    return Signature(tuple(inputs.values()), tuple(flow.outputs.values())), tuple(walk.findings)


class _Walk:
    """One walk through a graph, from the inside out; it collects conflicts and continues."""

    def __init__(self, signatures_of: SignaturesOf) -> None:
        self.findings: list[Finding] = []
        self._signatures_of = signatures_of

    def flow(self, node: Node, path: KeyPath) -> Flow:
        """Return the node's inputs and outputs."""
        match node:
            case CallNode():
                return self._call(node, path)
            case SequenceNode(steps):
                return self._sequence(steps, path)
            case EnsembleNode():
                return self._ensemble(node, path)
            case SwitchNode():
                return self._switch(node, path)

    def _call(self, call: CallNode, path: KeyPath) -> Flow:
        signatures = self._signatures_of(call)
        if not signatures:
            raise UnknownError
        self._check_names((*path, "inputs"), call, call.inputs, [signature.inputs for signature in signatures])
        self._check_names((*path, "outputs"), call, call.outputs, [signature.outputs for signature in signatures])
        flows = [
            Flow(
                self._merged(all_of, [{t.name: t} for t in _renamed(signature.inputs, call.inputs)], path),
                {tensor.name: tensor for tensor in _renamed(signature.outputs, call.outputs)},
            )
            for signature in signatures
        ]
        for flow, signature in zip(flows, signatures, strict=True):
            if len(flow.outputs) < len(signature.outputs):
                self._add_problem(
                    (*path, "outputs"), "two outputs have the same name", "Give each output its own name."
                )
        return self._one_of(flows, path)

    def _check_names(
        self, path: KeyPath, call: CallNode, names: Iterable[str], tensors: Sequence[Sequence[TensorSpec]]
    ) -> None:
        known = dict.fromkeys(tensor.name for group in tensors for tensor in group)
        for name in names:
            if name not in known:
                message = f"{' '.join(filter(None, (call.model, call.version)))} has no `{name}`"
                self._add_problem((*path, name), message, f"It has {listed(f'`{word}`' for word in known)}.")

    def _sequence(self, steps: Sequence[Node], path: KeyPath) -> Flow:
        first, *rest = (self.flow(step, (*path, "sequence", index)) for index, step in enumerate(steps))
        last = first
        for index, flow in enumerate(rest, start=1):
            self._check_handed_on(last, flow, (*path, "sequence", index))
            last = flow
        return Flow(first.inputs, last.outputs, first.compared)

    def _check_handed_on(self, before: Flow, after: Flow, path: KeyPath) -> None:
        """Check that a step's inputs are among the outputs of the step before."""
        given = before.outputs
        missing = [name for name, tensor in after.inputs.items() if tensor.required and name not in given]
        missing += [name for name in after.compared if name not in {**given, **after.inputs}]
        for name in missing:
            hint = f"It returns {_names_text(list(given))}; map one of them with `inputs: {{{name}: ...}}`."
            self._add_problem(path, f"the step before does not return `{name}`", hint)
        for name in (name for name in after.inputs if name in given):
            try:
                all_of([given[name], after.inputs[name]])
            except ClashError:
                got, wanted = spell_tensor(given[name]), spell_tensor(after.inputs[name])
                self._add_problem(path, f"`{name}` must be {wanted}, but the step before returns {got}")
        self.check_compared(given, after.compared, path)

    def check_compared(self, tensors: Tensors, compared: Mapping[str, tuple[Condition, ...]], path: KeyPath) -> None:
        """Check that tensors have the kinds that cases compare, and can have one element and such a value."""
        for name in (name for name in compared if name in tensors):
            datatype, kind = tensors[name].datatype, _kind_of(compared[name])
            its_kind = DATATYPES[datatype].kind
            if (its_kind if its_kind in DATATYPE_OF_KIND else "number") != kind:
                word = {"bytes": "texts", "bool": "true and false", "number": "numbers"}[kind]
                self._add_problem(path, f"`{name}` is {datatype}, but the cases compare it with {word}")
                continue
            for op, value in compared[name]:
                if not _can_hold(op, value, datatype):
                    self._add_problem(
                        path, f"`{name}` is {datatype}: `{op}: {value}` never matches", "Delete the case."
                    )
            if not {*(tensors[name].shape or ())} <= {-1, 1}:
                self._add_problem(
                    path, f"`{name}` is {spell_tensor(tensors[name])}, but a switch needs a tensor with one element"
                )

    def _ensemble(self, ensemble: EnsembleNode, path: KeyPath) -> Flow:
        flows = [self.flow(member, (*path, "ensemble", index)) for index, member in enumerate(ensemble.members)]
        given = [flow.outputs for flow in flows]
        common = [name for name in given[0] if all(name in outputs for outputs in given)]
        for name in ensemble.combine:
            if name != EVERY_OUTPUT and name not in common:
                some = any(name in outputs for outputs in given)
                message = f"{'not every' if some else 'no'} member returns `{name}`"
                self._add_problem((*path, "combine", name), message, f"All of them return {_names_text(common)}.")
        every = ensemble.combine.get(EVERY_OUTPUT)
        words = {name: word for name in common if (word := ensemble.combine.get(name, every))}
        outputs = {}
        for name, word in words.items():
            try:
                outputs[name] = combine_tensors(word, [outputs_of[name] for outputs_of in given])
            except ClashError as error:
                hint = "Choose another way to combine it, or name only the outputs to return."
                self._add_problem((*path, "combine"), f"cannot compute the {word} of `{name}`: {error}", hint)
        if not words:
            self._add_problem(path, "returns nothing: the members have no output in common")
        return Flow(self._merged(all_of, [flow.inputs for flow in flows], path), outputs, self._compared(flows, path))

    def _switch(self, switch: SwitchNode, path: KeyPath) -> Flow:
        nodes = [
            *((("cases", index, "then"), case.then) for index, case in enumerate(switch.cases)),
            (("otherwise",), switch.otherwise),
        ]
        flows = [self.flow(node, (*path, "switch", *keys)) for keys, node in nodes]
        comparisons = tuple((case.op, case.value) for case in switch.cases)
        flow = self._one_of(flows, path)
        inputs = dict(flow.inputs)
        if switch.input in inputs:
            inputs[switch.input] = replace(inputs[switch.input], required=True)
        compared = self._compared([flow, Flow({}, {}, {switch.input: comparisons})], path)
        return Flow(inputs, flow.outputs, compared)

    def _one_of(self, flows: Sequence[Flow], path: KeyPath) -> Flow:
        """Return the common inputs and outputs of several ways."""
        if len(flows) == 1:
            return flows[0]
        inputs = self._merged(any_of, [flow.inputs for flow in flows], path)
        everywhere = [name for name in flows[0].outputs if all(name in flow.outputs for flow in flows)]
        if not everywhere:
            self._add_problem(
                path, "returns nothing: no output is common to all cases", "Rename outputs with `outputs`."
            )
        outputs = self._merged(any_of, [{name: flow.outputs[name] for name in everywhere} for flow in flows], path)
        for name, tensor in inputs.items():
            if not all(name in flow.inputs for flow in flows):
                inputs[name] = replace(tensor, required=False)
        return Flow(inputs, outputs, self._compared(flows, path))

    def _merged(
        self, merge: Callable[[Sequence[TensorSpec]], TensorSpec], mappings: Sequence[Tensors], path: KeyPath
    ) -> dict[str, TensorSpec]:
        """Return the tensors by name; those with the same name are merged."""
        merged: dict[str, TensorSpec] = {}
        for name in dict.fromkeys(name for mapping in mappings for name in mapping):
            tensors = [mapping[name] for mapping in mappings if name in mapping]
            merged[name] = tensors[0]
            if len(tensors) > 1:
                try:
                    merged[name] = merge(tensors)
                except ClashError as error:
                    self._add_problem(path, f"`{name}` cannot be one tensor: {error}", "Give one of them another name.")
        return merged

    def _compared(self, flows: Sequence[Flow], path: KeyPath) -> dict[str, tuple[Condition, ...]]:
        compared: dict[str, tuple[Condition, ...]] = {}
        for flow in flows:
            for name, tests in flow.compared.items():
                compared[name] = tuple(dict.fromkeys((*compared.get(name, ()), *tests)))
                if _kind_of(compared[name]) != _kind_of(tests):
                    self._add_problem(path, f"`{name}` is compared with different kinds of values")
        return compared

    def _add_problem(self, path: KeyPath, message: str, hint: str = "") -> None:
        self.findings.append(Finding(path, message, hint))


def _renamed(tensors: Iterable[TensorSpec], names: Mapping[str, str]) -> list[TensorSpec]:
    return [replace(tensor, name=names.get(tensor.name, tensor.name)) for tensor in tensors]


def _kind_of(compared: Sequence[Condition]) -> str:
    """Return the kind of input that the values can be compared with, a key of `DATATYPE_OF_KIND`."""
    return KIND_OF_VALUE[type(compared[0][1])]


def _can_hold(op: str, value: str | float, datatype: str) -> bool:
    """Whether a datatype of the value's kind has a value for which the comparison holds."""
    if DATATYPES[datatype].kind != "int" or isinstance(value, str):
        return True
    limits = np.iinfo(DATATYPES[datatype].dtype)
    match op:
        case "equals":
            return int(limits.min) <= value <= int(limits.max) and value == int(value)
        case "below":
            return value > int(limits.min)
        case _:
            return value < int(limits.max)


def _names_text(names: Sequence[str]) -> str:
    return listed(f"`{name}`" for name in names) if names else "nothing"
