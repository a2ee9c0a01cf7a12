"""A Pulumi program under mocks: every resource that it requests, with its inputs and options, in order.

Where the program reads answers, they are AWS's. In a preview, nothing that AWS generates is known.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import struct_pb2
from pulumi.runtime import config, mocks, rpc, settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import Stack, run_pulumi_func

ACCOUNT = "123456789012"
REGION = "eu-west-1"
PARTITION = "aws"

AWS_ANSWERS: Mapping[str, Mapping[str, str]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
    "aws:index/getPartition:getPartition": {"partition": PARTITION},
    "aws:index/getRegion:getRegion": {"region": REGION},
}


@dataclass(frozen=True)
class Resource:
    """One registered resource.

    Args:
        type: `aws:lambda/function:Function`, or `turnout:infra:Roles` for a component.
        name: the logical name.
        urn: its URN, with the types of its parents.
        inputs: as the engine receives them; `UNKNOWN` if one is not known yet.
        ignored: inputs whose changes are ignored.
        retained: whether AWS keeps the resource when it leaves the stack.
        after: URNs of resources that must exist before.
        aliases: URNs that it may have in the state of an earlier deployment.
    """

    type: str
    name: str
    urn: str
    inputs: Mapping[str, Any]
    ignored: tuple[str, ...] = ()
    retained: bool = False
    after: frozenset[str] = frozenset()
    aliases: tuple[str, ...] = ()


@dataclass
class Program:
    """What a program requested and exported; `registered` has the outputs of components by their URN."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    registered: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, Resource]:
        """Return AWS's resources of a kind, `lambda/function:Function`, or components, by their logical names."""
        return {resource.name: resource for resource in self.resources if resource.type in {kind, f"aws:{kind}"}}

    def one(self, kind: str) -> Resource:
        """Return the only resource of its kind."""
        (result,) = self.of(kind).values()
        return result


def run_program(
    deploy: Callable[[], object],
    *,
    stack: str = "test",
    preview: bool = False,
    answers: Mapping[str, Mapping[str, str]] = AWS_ANSWERS,
    before: Mapping[str, Any] = {},
    **configuration: str,
) -> Program:
    """Run a program as Pulumi would, in its own context.

    Args:
        deploy: the program.
        stack: name of Pulumi's stack.
        preview: whether this is a preview.
        answers: function of the provider -> its answer.
        before: outputs of the stack's last deployment.
        configuration: the stack's configuration in the namespace `turnout`.
    """
    known = {**answers, "pulumi:pulumi:readStackOutputs": {"outputs": dict(before)}}
    return contextvars.copy_context().run(_run, deploy, stack, preview, known, configuration)


def _run(
    deploy: Callable[[], object],
    stack: str,
    preview: bool,
    answers: Mapping[str, Mapping[str, Any]],
    configuration: Mapping[str, str],
) -> Program:
    monitor = _Monitor(answers, preview)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        mocks.set_mocks(monitor.mocks, project="turnout", stack=stack, preview=preview, monitor=monitor)
        config.set_all_config({f"turnout:{key}": value for key, value in configuration.items()})
        loop.run_until_complete(run_pulumi_func(deploy))
        root = settings.get_root_resource()
        assert isinstance(root, Stack)
        exported = pulumi.Output.all(**root.outputs).future()
        monitor.program.outputs = dict(loop.run_until_complete(exported) or {})
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return monitor.program


class _Monitor(mocks.MockMonitor):
    """Pulumi's own monitor, without the need for an event loop in the threads that call it."""

    def __init__(self, answers: Mapping[str, Mapping[str, Any]], preview: bool) -> None:
        super().__init__(mocks=None)  # type: ignore[arg-type]  # nothing reads it here
        self.program = Program()
        self._answers = answers
        self._preview = preview

    def Invoke(self, request: Any) -> Any:
        return resource_pb2.ResourceInvokeResponse(**{"return": _struct(self._answers[request.tok])})

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        inputs = rpc.deserialize_properties(request.object, keep_unknowns=True)
        aliases = (*request.aliasURNs, *(alias.urn for alias in request.aliases))
        options = tuple(request.ignoreChanges), request.retainOnDelete, frozenset(request.dependencies), aliases
        self.program.resources.append(Resource(request.type, request.name, urn, inputs, *options))
        if self._preview or not request.custom:
            return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)
        made = _struct(_make(request.type, request.name, inputs))
        made.MergeFrom(request.object)
        return resource_pb2.RegisterResourceResponse(urn=urn, id=f"{request.name}-id", object=made)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.program.registered[request.urn] = rpc.deserialize_properties(request.outputs)
        return super().RegisterResourceOutputs(request)


def _make(kind: str, name: str, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the values that AWS generates, for all kinds at once."""
    arn = f"arn:{PARTITION}:made:{REGION}:{ACCOUNT}:{kind.rpartition(':')[2]}/{inputs.get('name', name)}"
    return {
        "arn": arn,
        "version": "1",
        "value": f"secret-{name}",
        "invokeUrl": f"https://{name}.example",
        "url": f"https://sqs.example/{name}",
    }


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(dict(values))
    return made
