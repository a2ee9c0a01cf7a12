"""The provider: the engine's requests, answered by the table of resources, and a record of everything that it did.

A resource's state is its inputs, the computed outputs, and the inputs once more in compared form, which shows removed
ones. Files are stored there as their digests, because the engine keeps no more of them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pulumi.provider.experimental import provider as sdk

from tests.engine.stand_in.values import UNKNOWN, is_file, settle, to_plain_map, to_property_map

COMPARED = "compared"

Inputs = Mapping[str, Any]


class Resource(Protocol):
    """The implementation of one type of resource.

    Attributes:
        replaced_by: inputs in camelCase whose change makes a new resource.
        computed: outputs that are unknown until the resource exists.
    """

    replaced_by: frozenset[str]
    computed: tuple[str, ...]

    def create(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        """Create the resource; return its id and the computed outputs."""
        ...

    def update(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        """Change the resource; return the newly computed outputs."""
        ...

    def read(self, identity: str, state: Inputs) -> Inputs:
        """Return the current inputs, if others than the engine change them; None for a deleted resource."""
        ...

    def unsettled(self, changed: Iterable[str], inputs: Inputs) -> tuple[str, ...]:
        """Return the outputs that are unknown before a change of these inputs is made."""
        ...

    def delete(self, identity: str, state: Inputs) -> None:
        """Delete the resource."""
        ...


def _no_change(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    raise AssertionError(f"{identity} cannot be changed: what changed should make a new one")


@dataclass(frozen=True)
class Calls:
    """A resource that is created, changed and deleted by one call each."""

    make: Callable[[Inputs], tuple[str, dict[str, Any]]]
    remove: Callable[[str, Inputs], object]
    change: Callable[[str, Inputs, Inputs], dict[str, Any]] = _no_change
    replaced_by: frozenset[str] = frozenset()
    computed: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()
    """Inputs that AWS fills in: a resource keeps what it has if none is given."""

    def create(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        """Create the resource."""
        return self.make(inputs)

    def update(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        """Change the resource."""
        return self.change(identity, before, inputs)

    def read(self, identity: str, state: Inputs) -> Inputs:
        """Only the engine changes it."""
        return {}

    def unsettled(self, changed: Iterable[str], inputs: Inputs) -> tuple[str, ...]:
        """Return no outputs."""
        return ()

    def delete(self, identity: str, state: Inputs) -> None:
        """Delete the resource."""
        self.remove(identity, state)


@dataclass
class Journal:
    """The operations that were performed: `(verb, type, name)` with the changed inputs."""

    rows: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)

    def add(self, verb: str, urn: str, names: tuple[str, ...] = ()) -> None:
        """Record one operation."""
        self.rows.append((verb, _type_of(urn), urn.rpartition("::")[2], names))

    def take(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """Return all operations since the last call."""
        rows, self.rows = self.rows, []
        return rows


class StandIn(sdk.Provider):
    """The provider named `aws`.

    Args:
        resources: type token -> implementation of the resource.
        functions: token of a function -> its implementation.
        version: the version that it reports.
        change_tags: makes the calls for tags: type token, id, inputs and outputs, tags before and after.
    """

    def __init__(
        self,
        resources: Mapping[str, Resource],
        functions: Mapping[str, Callable[[Inputs], dict[str, Any]]],
        version: str,
        change_tags: Callable[[str, str, Inputs, Inputs, Inputs], None],
    ) -> None:
        self._resources = resources
        self._functions = functions
        self._version = version
        self._change_tags = change_tags
        self._refused: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()  # moto is not thread-safe
        self.journal = Journal()

    def refuse(self, kind: str, name: str, reason: str) -> None:
        """Fail the next attempt to create a resource."""
        self._refused[kind, name] = reason

    async def get_schema(self, request: sdk.GetSchemaRequest) -> sdk.GetSchemaResponse:
        """Return the least that the engine accepts."""
        return sdk.GetSchemaResponse(json.dumps({"name": "aws", "version": self._version}))

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Accept every configuration."""
        return sdk.CheckResponse(request.new_inputs, [])

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        """Support previews; the engine itself keeps secrets."""
        return sdk.ConfigureResponse(supports_preview=True)

    async def invoke(self, request: sdk.InvokeRequest) -> sdk.InvokeResponse:
        """Answer `getCallerIdentity` and similar calls."""
        answer = self._functions[request.tok](to_plain_map(request.args))
        return sdk.InvokeResponse(to_property_map(answer))

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        """Fail the test at preview for an unknown type."""
        if _type_of(request.urn) not in self._resources:
            raise KeyError(f"the stand-in provider has no {_type_of(request.urn)}")
        return sdk.CheckResponse(request.new_inputs, [])

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        """Return which inputs changed, and whether that makes a new resource."""
        before, after = to_plain_map(request.old_state), to_plain_map(request.new_inputs)
        changed = changed_names(before, after)
        replaced_by = self._resources[_type_of(request.urn)].replaced_by
        kept = getattr(self._resources[_type_of(request.urn)], "kept", ())
        changed = [name for name in changed if name not in kept or after.get(name) is not None]
        replaces = [name for name in changed if name in replaced_by]
        kinds = sdk.PropertyDiffKind
        detailed = {
            name: sdk.PropertyDiff(
                kinds.UPDATE_REPLACE if name in replaced_by else kinds.UPDATE,
                True,
            )
            for name in changed
        }
        # As Pulumi's bridge does for a resource whose name is given: the new one cannot exist beside the old one.
        first = bool(replaces) and "name" in after and "name" not in changed
        return sdk.DiffResponse(
            changes=bool(changed),
            replaces=replaces,
            diffs=changed,
            detailed_diff=detailed,
            delete_before_replace=first,
        )

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        """Create a resource, or return what a preview can know of it."""
        inputs = to_plain_map(request.properties)
        resource = self._resources[_type_of(request.urn)]
        if request.preview:
            return sdk.CreateResponse(
                "", to_property_map(_without_files(inputs) | dict.fromkeys(resource.computed, UNKNOWN))
            )
        refused = self._refused.pop((_type_of(request.urn), request.urn.rpartition("::")[2]), None)
        if refused is not None:
            raise RuntimeError(refused)
        identity, outputs = await self._carry_out(resource.create, inputs)
        await self._tag(request.urn, identity, {**inputs, **outputs}, {})
        self.journal.add("create", request.urn)
        return sdk.CreateResponse(identity, to_property_map(_state(inputs, outputs)))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        """Return the current state."""
        state = to_plain_map(request.properties)
        resource = self._resources[_type_of(request.urn)]
        result = await self._carry_out(resource.read, request.resource_id, state)
        state |= {**result, COMPARED: _present({**state[COMPARED], **result})}
        return sdk.ReadResponse(request.resource_id, to_property_map(_present(state)))

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        """Change a resource; computed outputs stay known in a preview."""
        before, inputs = to_plain_map(request.olds), to_plain_map(request.news)
        kept = {name: value for name, value in before.items() if name not in before[COMPARED]}
        resource = self._resources[_type_of(request.urn)]
        if request.preview:
            unsettled = dict.fromkeys(resource.unsettled(changed_names(before, inputs), inputs), UNKNOWN)
            return sdk.UpdateResponse(to_property_map(kept | _without_files(inputs) | unsettled))
        outputs: Inputs = {}
        if changed_names(before, inputs) != ["tags"]:
            outputs = await self._carry_out(resource.update, request.resource_id, before, inputs)
        await self._tag(request.urn, request.resource_id, {**kept, **inputs, **outputs}, before)
        self.journal.add("update", request.urn, tuple(changed_names(before, inputs)))
        return sdk.UpdateResponse(to_property_map(kept | _state(inputs, outputs)))

    async def delete(self, request: sdk.DeleteRequest) -> None:
        """Delete a resource."""
        resource = self._resources[_type_of(request.urn)]
        await self._carry_out(resource.delete, request.resource_id, to_plain_map(request.properties))
        self.journal.add("delete", request.urn)

    async def _tag(self, urn: str, identity: str, state: Inputs, before: Inputs) -> None:
        old, new = before.get("tags") or {}, state.get("tags") or {}
        await self._carry_out(self._change_tags, _type_of(urn), identity, state, old, new)

    async def _carry_out(self, act: Callable[..., Any], *arguments: Any) -> Any:
        def locked() -> Any:
            with self._lock:
                return act(*arguments)

        return await asyncio.to_thread(locked)


def changed_names(before: Inputs, after: Inputs) -> list[str]:
    """Return the inputs that were added, removed or changed."""
    old, new = before.get(COMPARED, {}), settle(dict(after))
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _present(values: Inputs) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _state(inputs: Inputs, outputs: Inputs) -> dict[str, Any]:
    return {**_without_files(inputs), **outputs, COMPARED: settle(dict(inputs))}


def _without_files(inputs: Inputs) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if not is_file(value)}


def _type_of(urn: str) -> str:
    """Return the last of the types in an URN; those before it are the parents'."""
    return urn.split("::")[-2].rpartition("$")[2]
