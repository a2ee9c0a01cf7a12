"""Functions, layers, aliases: the resources of Lambda."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.awslambda_simple.models import lambda_simple_backends

from tests.engine.stand_in.clients import client_of
from tests.engine.stand_in.company_rules import check_key, check_vpc
from tests.engine.stand_in.provider import Calls, Inputs, changed_names

CODE = frozenset({"code", "s3Bucket", "s3Key", "sourceCodeHash"})
UNPUBLISHED = frozenset({"publish", "reservedConcurrentExecutions", "tags"})
"""Settings that belong to the function and not to its versions."""


def read_code(inputs: Inputs) -> dict[str, Any]:
    """Return the code argument of CreateFunction and similar calls: bytes, or a location in S3."""
    code = inputs.get("code")
    if code is None:
        return {"S3Bucket": inputs["s3Bucket"], "S3Key": inputs["s3Key"]}
    if "path" in code:
        return {"ZipFile": Path(code["path"]).read_bytes()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, asset in sorted(code["assets"].items()):
            data = Path(asset["path"]).read_bytes() if "path" in asset else asset["text"].encode()
            archive.writestr(zipfile.ZipInfo(name), data)
    return {"ZipFile": packed.getvalue()}


def snap_start_of(inputs: Inputs) -> str:
    """Return which versions start from a snapshot; moto accepts the setting but returns another one."""
    applied: str = (inputs.get("snapStart") or {}).get("applyOn", "None")
    return applied


def _configuration(inputs: Inputs) -> dict[str, Any]:
    logging = inputs.get("loggingConfig")
    given = {
        "Role": inputs["role"],
        "Runtime": inputs["runtime"],
        "Handler": inputs["handler"],
        "MemorySize": inputs.get("memorySize", 128),
        "Timeout": inputs.get("timeout", 3),
        "Layers": inputs.get("layers", []),
        "Environment": {"Variables": dict((inputs.get("environment") or {}).get("variables") or {})},
        "EphemeralStorage": {"Size": (inputs.get("ephemeralStorage") or {}).get("size", 512)},
        "TracingConfig": {"Mode": (inputs.get("tracingConfig") or {}).get("mode", "PassThrough")},
        "SnapStart": {"ApplyOn": snap_start_of(inputs)},
        "VpcConfig": check_vpc(inputs) or {"SubnetIds": [], "SecurityGroupIds": []},
    }
    check_key(inputs.get("kmsKeyArn"))
    if logging is not None:
        given["LoggingConfig"] = {"LogFormat": logging["logFormat"], "LogGroup": logging["logGroup"]}
    return given


@dataclass(frozen=True)
class Function:
    """`publish` makes a version for each change of the code or configuration, but not of the reservation."""

    sent: list[str]
    snap_start: dict[str, str]
    environment_keys: dict[str, str]
    numbers: dict[str, int] = field(default_factory=dict)
    replaced_by = frozenset({"name", "packageType"})
    computed = ("arn", "version", "qualifiedArn", "invokeArn", "lastModified")

    def create(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        """Call CreateFunction."""
        refuse_function(inputs)
        self.sent.append(inputs["name"])
        made = client_of("lambda").create_function(
            FunctionName=inputs["name"],
            Code=read_code(inputs),
            Publish=bool(inputs.get("publish")),
            Architectures=inputs.get("architectures", ["x86_64"]),
            **_configuration(inputs),
        )
        self._reserve(inputs)
        self.snap_start[inputs["name"]] = snap_start_of(inputs)
        self.environment_keys[inputs["name"]] = inputs.get("kmsKeyArn") or ""
        return inputs["name"], _outputs(made)

    def update(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        """Call UpdateFunctionConfiguration and UpdateFunctionCode if their inputs changed, then PublishVersion."""
        refuse_function(inputs)
        client = client_of("lambda")
        changed = set(changed_names(before, inputs))
        if "reservedConcurrentExecutions" in changed:
            self._reserve(inputs)
        self.snap_start[identity] = snap_start_of(inputs)
        self.environment_keys[identity] = inputs.get("kmsKeyArn") or ""
        if changed - CODE - UNPUBLISHED:
            client.update_function_configuration(FunctionName=identity, **_configuration(inputs))
        if changed & CODE:
            self.sent.append(identity)
            client.update_function_code(FunctionName=identity, **read_code(inputs))
        if not (inputs.get("publish") and changed - UNPUBLISHED):
            return {}
        return _outputs(self._publish(identity))

    def read(self, identity: str, state: Inputs) -> Inputs:
        """Only the engine changes it."""
        return {}

    def unsettled(self, changed: Iterable[str], inputs: Inputs) -> tuple[str, ...]:
        """A published change has a version number that is not known in advance."""
        is_published = inputs.get("publish") and set(changed) - UNPUBLISHED
        return ("version", "qualifiedArn", "lastModified") if is_published else ()

    def delete(self, identity: str, state: Inputs) -> None:
        """Call DeleteFunction for all versions."""
        client_of("lambda").delete_function(FunctionName=identity)

    def _publish(self, name: str) -> Mapping[str, Any]:
        """Call PublishVersion. Moto numbers a version by how many exist, and reuses the number of a deleted one."""
        client = client_of("lambda")
        made = client.publish_version(FunctionName=name)
        number = self.numbers[name] = self.numbers.get(name, 1) + 1
        backend = lambda_simple_backends[made["FunctionArn"].split(":")[4]][client.meta.region_name]._lambdas
        versions = backend._functions[name]["versions"]
        versions[-1].set_version(number)
        backend._arns.update({version.function_arn: version for version in versions})
        return client.get_function_configuration(FunctionName=name, Qualifier=str(number))

    def _reserve(self, inputs: Inputs) -> None:
        client, reserved = client_of("lambda"), inputs.get("reservedConcurrentExecutions", -1)
        if reserved >= 0:
            client.put_function_concurrency(FunctionName=inputs["name"], ReservedConcurrentExecutions=reserved)
        else:
            client.delete_function_concurrency(FunctionName=inputs["name"])


def refuse_function(inputs: Inputs) -> None:
    """Reject what Lambda rejects and moto accepts. [DOC] Lambda Developer Guide, "Improving startup performance with
    Lambda SnapStart": no ephemeral storage over 512 MB. A layer must exist.
    """
    disk_mb = (inputs.get("ephemeralStorage") or {}).get("size", 512)
    if snap_start_of(inputs) != "None" and disk_mb > 512:
        raise ValueError(f"SnapStart is not supported with ephemeral storage of {disk_mb} MB")
    for arn in inputs.get("layers", []):
        _, name, number = arn.rsplit(":", 2)
        client_of("lambda").get_layer_version(LayerName=name, VersionNumber=int(number))


def _outputs(made: Mapping[str, Any]) -> dict[str, Any]:
    arn = made["FunctionArn"].removesuffix(f":{made['Version']}")
    return {
        "arn": arn,
        "version": made["Version"],
        "qualifiedArn": f"{arn}:{made['Version']}",
        "invokeArn": f"arn:aws:apigateway:::lambda:path/2015-03-31/functions/{arn}/invocations",
        "lastModified": made["LastModified"],
    }


def _make_alias(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    made = client_of("lambda").create_alias(
        FunctionName=inputs["functionName"], Name=inputs["name"], FunctionVersion=inputs["functionVersion"]
    )
    return made["AliasArn"], {"arn": made["AliasArn"], "invokeArn": made["AliasArn"]}


def _move_alias(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    client_of("lambda").update_alias(
        FunctionName=inputs["functionName"], Name=inputs["name"], FunctionVersion=inputs["functionVersion"]
    )
    return {}


ALIAS = Calls(
    make=_make_alias,
    change=_move_alias,
    remove=lambda _, state: client_of("lambda").delete_alias(FunctionName=state["functionName"], Name=state["name"]),
    replaced_by=frozenset({"name", "functionName"}),
    computed=("arn", "invokeArn"),
)


def make_layer_version(sent: list[str]) -> Calls:
    """Layers are immutable: every change is a new version; every zip is recorded in `sent`."""

    def publish(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        sent.append(inputs["layerName"])
        made = client_of("lambda").publish_layer_version(
            LayerName=inputs["layerName"],
            Description=inputs.get("description", ""),
            Content=read_code(inputs),
            CompatibleRuntimes=inputs.get("compatibleRuntimes", []),
        )
        arn = made["LayerVersionArn"]
        return arn, {"arn": arn, "layerArn": made["LayerArn"], "version": str(made["Version"])}

    return Calls(
        make=publish,
        remove=lambda _, state: client_of("lambda").delete_layer_version(
            LayerName=state["layerName"], VersionNumber=int(state["version"])
        ),
        replaced_by=CODE | {"layerName", "description", "compatibleRuntimes", "compatibleArchitectures"},
        computed=("arn", "layerArn", "version"),
    )


def _permit(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    client_of("lambda").add_permission(
        FunctionName=inputs["function"],
        StatementId=inputs["statementId"],
        Action=inputs["action"],
        Principal=inputs["principal"],
        SourceArn=inputs["sourceArn"],
    )
    return inputs["statementId"], {}


PERMISSION = Calls(
    make=_permit,
    remove=lambda identity, state: client_of("lambda").remove_permission(
        FunctionName=state["function"], StatementId=identity
    ),
    replaced_by=frozenset({"statementId", "action", "function", "principal", "sourceArn", "qualifier"}),
)


def make_invocation(handlers: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> Calls:
    """Make one call each time that the resource is created. Moto runs no code, so `handlers` do: end of a function's
    name -> handler.
    """

    def invoke(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        handler = next(run for end, run in handlers.items() if inputs["functionName"].endswith(end))
        result = json.dumps(handler(json.loads(inputs["input"])))
        return f"{inputs['functionName']}_{hashlib.md5(inputs['input'].encode()).hexdigest()}", {"result": result}

    return Calls(
        make=invoke,
        remove=lambda identity, _: None,  # nothing is called
        replaced_by=frozenset({"functionName", "input", "triggers", "qualifier"}),
        computed=("result",),
    )


def make_provisioned_concurrency(kept: dict[str, int]) -> Calls:
    """Moto has no such call, so `kept` stores the value: `function:alias` -> instances."""

    def put(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        identity = f"{inputs['functionName']}:{inputs['qualifier']}"
        kept[identity] = inputs["provisionedConcurrentExecutions"]
        return identity, {}

    return Calls(
        make=put,
        change=lambda _, before, inputs: put(inputs)[1],
        remove=lambda identity, _: kept.pop(identity),
        replaced_by=frozenset({"functionName", "qualifier"}),
    )


def make_event_invoke_config(kept: dict[str, tuple[int, int]]) -> Calls:
    """Moto keeps one for each function, so `kept` stores them: `function:qualifier` -> retries, seconds in the
    queue. [DOC] The bounds are those of botocore's service model.
    """

    def put(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        retries, age_s = inputs["maximumRetryAttempts"], inputs["maximumEventAgeInSeconds"]
        if not 0 <= retries <= 2:
            raise ValueError(f"Value '{retries}' at 'maximumRetryAttempts' failed to satisfy constraint")
        if not 60 <= age_s <= 21_600:
            raise ValueError(f"Value '{age_s}' at 'maximumEventAgeInSeconds' failed to satisfy constraint")
        client_of("lambda").get_alias(FunctionName=inputs["functionName"], Name=inputs["qualifier"])
        identity = f"{inputs['functionName']}:{inputs['qualifier']}"
        kept[identity] = retries, age_s
        return identity, {}

    return Calls(
        make=put,
        change=lambda _, before, inputs: put(inputs)[1],
        remove=lambda identity, _: kept.pop(identity),
        replaced_by=frozenset({"functionName", "qualifier"}),
    )
