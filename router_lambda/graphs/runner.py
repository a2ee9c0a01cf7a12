"""Runs a graph of calls: one request makes several calls, whose outputs make one response.

Graphs that it calls also run here, and models with a router are routed here: each step is one hop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from turnout.protocol.aws.events import is_canary, read_event
from turnout.protocol.codecs.codecs import decode_request, encode_answer
from turnout.protocol.codecs.responses import make_tensor_answer
from turnout.protocol.errors import RequestError
from turnout.protocol.naming import CANARY_HEADER, FALLBACK_HEADER, GRAPH, MODEL_HEADER, ROUTE_HEADER, VERSION_HEADER
from turnout.protocol.routing.choice import RouteError
from turnout.protocol.routing.graph_nodes import EVERY_OUTPUT, CallNode, EnsembleNode, Node, SequenceNode, SwitchNode
from turnout.protocol.routing.route_table import GraphRoute, RouteTable
from turnout.protocol.routing.step_tensors import Tensor, Tensors
from turnout.protocol.tensors.datatypes import Signature
from turnout.protocol.tensors.interface import Interface, build_interface

from ..calls import Calls
from ..tasks import Tasks
from .combine import CombineError, combine
from .steps import read_outcome, step_event
from .switches import choose_case


@dataclass(frozen=True, slots=True)
class _Run:
    """One request that is being answered.

    Args:
        event: the caller's event.
        deadline_s: when the caller gives up.
        within: the enclosing graphs.
        failed: `model version` of each step that failed and was answered by its fallback; shared by all steps.
    """

    event: Mapping[str, Any]
    deadline_s: float
    within: tuple[str, ...] = ()
    failed: set[str] = field(default_factory=set)


class Graphs:
    """Runs the graphs of a table.

    Args:
        table: the models.
        calls: calls models that are not graphs.
        tasks: runs an ensemble's members concurrently.
    """

    def __init__(self, table: RouteTable, calls: Calls, tasks: Tasks) -> None:
        self._table = table
        self._calls = calls
        self._tasks = tasks
        self._interfaces = {
            name: _make_interface(name, route.graph) for name, route in table.models.items() if route.graph is not None
        }

    async def answer(self, model: str, event: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Return the proxy response of a graph.

        Raises:
            RequestError: the client's request is invalid, or a step failed.
            RouteError: the stage's variables name no version for a step.
        """
        interface = self._interfaces[model]
        request = decode_request(*read_event(event), interface)
        sent = {name: Tensor(interface.inputs[name].datatype, values) for name, values in request.inputs.items()}
        run = _Run(event, deadline_s)
        given = await self._run_graph(model, sent, run)
        # In the signature's order, then additional outputs of a transform: callers do not know the order of the calls.
        outputs = {name: given[name] for name in (*interface.outputs, *given) if name in given}
        datatypes = {name: tensor.datatype.name for name, tensor in outputs.items()}
        arrays = {name: tensor.values for name, tensor in outputs.items()}
        answer = encode_answer(arrays, request, replace(interface, outputs=datatypes))
        headers = {
            "Content-Type": "application/json",
            MODEL_HEADER: model,
            VERSION_HEADER: GRAPH,
            CANARY_HEADER: "true" if is_canary(event) else "false",
            ROUTE_HEADER: GRAPH,
        }
        if run.failed:
            headers[FALLBACK_HEADER] = ", ".join(sorted(run.failed))
        return make_tensor_answer(headers, answer)

    async def _run_graph(self, model: str, tensors: Tensors, run: _Run) -> Tensors:
        if model in run.within:  # cannot come from a valid manifest; without this check the calls would never end
            raise RequestError("LOOP", f"{' -> '.join((*run.within, model))}: a graph that calls itself")
        graph = self._table.models[model].graph
        assert graph is not None
        return await self._run_node(graph.node, tensors, replace(run, within=(*run.within, model)))

    async def _run_node(self, node: Node, tensors: Tensors, run: _Run) -> Tensors:
        match node:
            case SequenceNode(steps):
                for step in steps:
                    tensors = await self._run_node(step, tensors, run)
                return tensors
            case EnsembleNode(members, words):
                made = await self._tasks.gather(self._run_node(member, tensors, run) for member in members)
                return _combine_outputs(words, made)
            case SwitchNode():
                return await self._run_node(choose_case(node, tensors), tensors, run)
            case CallNode():
                return await self._run_call(node, tensors, run)

    async def _run_call(self, node: CallNode, tensors: Tensors, run: _Run) -> Tensors:
        if self._table.models[node.model].graph is not None:
            taken = _take(node, self._interfaces[node.model].inputs, tensors)
            outputs = await self._run_graph(node.model, taken, run)
        else:
            outputs = await self._call_version(node, tensors, run)
        return {node.outputs.get(name, name): tensor for name, tensor in outputs.items()}

    async def _call_version(self, node: CallNode, tensors: Tensors, run: _Run) -> Tensors:
        version, how = (node.version, "pinned") if node.version else self._calls.choose(node.model, run.event)
        versions = self._table.models[node.model].versions
        if version not in versions:
            raise RouteError(f"the stage variables name {node.model} {version}, which does not exist")
        taken = _take(node, versions[version].inputs, tensors)
        event = step_event(run.event, taken, f"{node.model} {version}")
        # A version that the graph names was tested with it: another version may answer only if the graph allows it.
        may_fall_back = not node.version or node.fallback
        outcome = await self._calls.call(node.model, version, how, event, run.deadline_s, may_fall_back=may_fall_back)
        if outcome.instead_of:
            run.failed.add(f"{node.model} {outcome.instead_of}")
        return read_outcome(node.model, outcome)


def _make_interface(model: str, graph: GraphRoute) -> Interface:
    return build_interface(Signature.from_json(graph.signature), model, GRAPH)


def _take(node: CallNode, inputs: Iterable[str], tensors: Tensors) -> Tensors:
    """Return the tensors that the call declares, under the names of the called model."""
    sources = {name: node.inputs.get(name, name) for name in inputs}
    return {name: tensors[source] for name, source in sources.items() if source in tensors}


def _combine_outputs(words: Mapping[str, str], members: list[Tensors]) -> Tensors:
    """Combine the outputs named in `combine`, and with `*` all others that every member returns."""
    names = {name: words[name] for name in words if name != EVERY_OUTPUT}
    if EVERY_OUTPUT in words:
        shared = (name for name in members[0] if all(name in member for member in members))
        names = dict.fromkeys(shared, words[EVERY_OUTPUT]) | names
    return {name: _combine_output(name, word, members) for name, word in names.items()}


def _combine_output(name: str, word: str, members: list[Tensors]) -> Tensor:
    try:
        return combine(word, [member[name] for member in members])
    except KeyError:
        raise RequestError("STEP_FAILED", f"output `{name}`: not every member of the ensemble returns it") from None
    except CombineError as error:
        raise RequestError("STEP_FAILED", f"output `{name}`: {word}: {error}", tensor=name) from None
