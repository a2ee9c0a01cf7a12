"""Functions, layers, aliases: what Lambda has."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.engine.stand_in.provider import Calls, Inputs, changed_names

CODE = frozenset({"code", "s3Bucket", "s3Key", "sourceCodeHash"})


def read_code(inputs: Inputs) -> dict[str, Any]:
    """What CreateFunction and its like take: bytes, or a place in S3."""
    code = inputs.get("code")
    if code is None:
        return {"S3Bucket": inputs["s3Bucket"], "S3Key": inputs["s3Key"]}
    if "path" in code:
        return {"ZipFile": Path(code["path"]).read_bytes()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, asset in sorted(code["assets"].items()):
            archive.writestr(zipfile.ZipInfo(name), Path(asset["path"]).read_bytes())
    return {"ZipFile": packed.getvalue()}


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
        "SnapStart": {"ApplyOn": (inputs.get("snapStart") or {}).get("applyOn", "None")},
    }
    if logging is not None:
        given["LoggingConfig"] = {"LogFormat": logging["logFormat"], "LogGroup": logging["logGroup"]}
    return given


@dataclass(frozen=True)
class Function:
    """`publish` makes a version of each change; moto makes one of each change of the code."""

    sent: list[str]
    replaced_by = frozenset({"name", "packageType"})
    computed = ("arn", "version", "qualifiedArn", "invokeArn", "lastModified")

    def create(self, inputs: Inputs) -> tuple[str, dict[str, Any]]:
        """CreateFunction."""
        self.sent.append(inputs["name"])
        made = boto3.client("lambda").create_function(
            FunctionName=inputs["name"],
            Code=read_code(inputs),
            Publish=bool(inputs.get("publish")),
            Architectures=inputs.get("architectures", ["x86_64"]),
            **_configuration(inputs),
        )
        self._reserve(inputs)
        return inputs["name"], _outputs(made)

    def update(self, identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
        """UpdateFunctionCode where the code changed, UpdateFunctionConfiguration where the rest did."""
        client = boto3.client("lambda")
        changed = set(changed_names(before, inputs))
        if changed - CODE:
            client.update_function_configuration(FunctionName=identity, **_configuration(inputs))
        if changed & CODE:
            self.sent.append(identity)
            made = client.update_function_code(FunctionName=identity, Publish=True, **read_code(inputs))
            return _outputs(made)
        self._reserve(inputs)
        return {}

    def unsettled(self, changed: Iterable[str], inputs: Inputs) -> tuple[str, ...]:
        """A published change has a number that nobody knows yet."""
        return ("version", "qualifiedArn", "lastModified") if inputs.get("publish") and CODE & set(changed) else ()

    def delete(self, identity: str, state: Inputs) -> None:
        """DeleteFunction, all its versions."""
        boto3.client("lambda").delete_function(FunctionName=identity)

    def _reserve(self, inputs: Inputs) -> None:
        reserved = inputs.get("reservedConcurrentExecutions", -1)
        if reserved is not None and reserved >= 0:
            boto3.client("lambda").put_function_concurrency(
                FunctionName=inputs["name"], ReservedConcurrentExecutions=reserved
            )


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
    made = boto3.client("lambda").create_alias(
        FunctionName=inputs["functionName"], Name=inputs["name"], FunctionVersion=inputs["functionVersion"]
    )
    return made["AliasArn"], {"arn": made["AliasArn"], "invokeArn": made["AliasArn"]}


def _move_alias(identity: str, before: Inputs, inputs: Inputs) -> dict[str, Any]:
    boto3.client("lambda").update_alias(
        FunctionName=inputs["functionName"], Name=inputs["name"], FunctionVersion=inputs["functionVersion"]
    )
    return {}


ALIAS = Calls(
    make=_make_alias,
    change=_move_alias,
    remove=lambda _, state: boto3.client("lambda").delete_alias(FunctionName=state["functionName"], Name=state["name"]),
    replaced_by=frozenset({"name", "functionName"}),
    computed=("arn", "invokeArn"),
)


def make_layer_version(sent: list[str]) -> Calls:
    """Layers are immutable: every change is a new version; `sent` hears of every zip."""

    def publish(inputs: Inputs) -> tuple[str, dict[str, Any]]:
        sent.append(inputs["layerName"])
        made = boto3.client("lambda").publish_layer_version(
            LayerName=inputs["layerName"],
            Content=read_code(inputs),
            CompatibleRuntimes=inputs.get("compatibleRuntimes", []),
        )
        arn = made["LayerVersionArn"]
        return arn, {"arn": arn, "layerArn": made["LayerArn"], "version": str(made["Version"])}

    return Calls(
        make=publish,
        remove=lambda _, state: boto3.client("lambda").delete_layer_version(
            LayerName=state["layerName"], VersionNumber=int(state["version"])
        ),
        replaced_by=CODE | {"layerName", "compatibleRuntimes", "compatibleArchitectures"},
        computed=("arn", "layerArn", "version"),
    )


def _permit(inputs: Inputs) -> tuple[str, dict[str, Any]]:
    boto3.client("lambda").add_permission(
        FunctionName=inputs["function"],
        StatementId=inputs["statementId"],
        Action=inputs["action"],
        Principal=inputs["principal"],
        SourceArn=inputs["sourceArn"],
    )
    return inputs["statementId"], {}


PERMISSION = Calls(
    make=_permit,
    remove=lambda identity, state: boto3.client("lambda").remove_permission(
        FunctionName=state["function"], StatementId=identity
    ),
    replaced_by=frozenset({"statementId", "action", "function", "principal", "sourceArn", "qualifier"}),
)


def make_provisioned_concurrency(kept: dict[str, int]) -> Calls:
    """Moto has no such call, so `kept` has them: `function:alias` -> instances."""

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
