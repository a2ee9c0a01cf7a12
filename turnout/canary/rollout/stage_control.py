"""The live state of a stage, on AWS or in a local gateway, and changes to it that take effect immediately.

A local gateway implements API Gateway's protocol, so boto3 can access either. `local_stage` works without boto3, for
this machine only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from turnout.aws_client import check_boto3, make_aws_client
from turnout.extras import MissingPackageError
from turnout.loopback import is_loopback_url
from turnout.problems import TurnoutError
from turnout.protocol.aws.events import PING
from turnout.protocol.aws.regions import dns_suffix
from turnout.protocol.naming import split_function_name, stack_bucket_name
from turnout.protocol.routing.choice_tables import TABLES_FOLDER, TableError, names_of, parse_table, table_path
from turnout.protocol.routing.pooled import UNKNOWN_VERSION, aim_at

NO_SERVER = "Check that `turnout serve` runs there."
REGION = "Set the region with AWS_REGION or a profile, and credentials as boto3 expects them."

TABLES_HINT = (
    "The credentials need s3:GetObject and s3:PutObject on `choices/*` of the stack's bucket. `pulumi up` makes the "
    "bucket and writes the tables of models.yaml."
)

StageOperation = Mapping[str, str]
"""One patch operation as boto3 takes it: `{"op": "replace", "path": "/variables/iris", "value": "v2"}`."""


class StageControlError(TurnoutError):
    """The stage cannot be read or changed."""


@dataclass(frozen=True, slots=True)
class LiveCanary:
    """The canary of a stage as it is served."""

    percent: float
    overrides: Mapping[str, str]
    deployment_id: str


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage as it is served: what its traffic sees now.

    `tables` are the texts of the tables that its variables and the canary's overrides name.
    """

    deployment_id: str
    variables: Mapping[str, str]
    canary: LiveCanary | None = None
    tables: Mapping[str, str] = field(default_factory=dict)

    def named_tables(self) -> tuple[str, ...]:
        """Return the names of the tables."""
        return tuple(names_of(self.variables, self.canary.overrides if self.canary else {}))


class StageControl(Protocol):
    """One stage that can be read and changed."""

    def read(self) -> StageState:
        """Return the stage's current state."""

    def update(self, operations: Sequence[StageOperation]) -> None:
        """Apply all of the operations or none."""

    def store(self, tables: Mapping[str, str]) -> None:
        """Write tables with choices, by name, which an update will name; they may exist already."""

    def url(self) -> str:
        """Return the address of the API on AWS; the stage's name is the first segment of its paths."""


@dataclass(frozen=True, slots=True)
class StageTarget:
    """The place of a stage.

    Args:
        stack: the Pulumi stack, part of the API's name; `local` for a local gateway.
        endpoint_url: address of API Gateway's control plane; empty for AWS's own.
    """

    stack: str = "local"
    endpoint_url: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is a local gateway."""
        return is_loopback_url(self.endpoint_url)

    def __str__(self) -> str:
        """Return `http://127.0.0.1:8080`, or `stack prod`."""
        return self.endpoint_url or f"stack {self.stack}"


class ReachableFunctions(Protocol):
    """The functions at the place where a stage is served."""

    def has(self, name: str) -> bool:
        """Whether the function with this name and alias exists."""


class ApiGatewayStage:
    """One stage behind a boto3 client of API Gateway.

    Args:
        client: `boto3.client("apigateway")`.
        api: the REST API's name in the plan.
        stage: the stage's name.
        where: the name of the place in messages.
        tables: the place with the tables of choices; None if the stage has none.
    """

    def __init__(self, client: Any, api: str, stage: str, where: str, tables: StoredTables | None = None) -> None:
        self._client = client
        self._tables = tables
        self._api = api
        self._stage = stage
        self._where = where
        self._id = ""

    def read(self) -> StageState:
        """Return the stage's current state."""
        with self._translated_errors():
            answer = self._client.get_stage(restApiId=self._api_id(), stageName=self._stage)
        state = stage_state(answer)
        names = state.named_tables()
        if not names:
            return state
        if self._tables is None:
            raise StageControlError(f"{self._where} serves stage {self._stage} from a table, not {self._api}")
        return replace(state, tables={name: self._tables.read(name) for name in names})

    def update(self, operations: Sequence[StageOperation]) -> None:
        """Apply all operations in one call, which API Gateway executes completely or not at all."""
        with self._translated_errors():
            self._client.update_stage(
                restApiId=self._api_id(),
                stageName=self._stage,
                patchOperations=[dict(operation) for operation in operations],
            )

    def store(self, tables: Mapping[str, str]) -> None:
        """Write tables into the stack's bucket."""
        if tables and self._tables is not None:
            self._tables.write(tables)

    def url(self) -> str:
        """Return the API's own endpoint on AWS."""
        region = self._client.meta.region_name
        with self._translated_errors():
            return f"https://{self._api_id()}.execute-api.{region}.{dns_suffix(region)}"

    def _api_id(self) -> str:
        if not self._id:
            pages = self._client.get_paginator("get_rest_apis").paginate()
            names = {api["id"]: api["name"] for page in pages for api in page.get("items", [])}
            self._id = find_api_id(names, self._api, self._where)
        return self._id

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate the client's exceptions to sentences: no server, no credentials, an AWS error."""
        from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

        try:
            yield
        except ClientError as error:
            said = error.response.get("Error", {})
            message = (
                f"{self._where} rejected the change of stage {self._stage}: {said.get('Code')}: {said.get('Message')}"
            )
            raise StageControlError(message) from error
        except BotoCoreError as error:
            hint = NO_SERVER if isinstance(error, EndpointConnectionError) else REGION
            raise StageControlError(f"{self._where} cannot be reached: {error}".rstrip("."), hint) from error


class StoredTables(Protocol):
    """The place of the tables of choices."""

    def read(self, name: str) -> str:
        """Return the text of a table."""

    def write(self, tables: Mapping[str, str]) -> None:
        """Write tables, by name."""


class BucketTables:
    """The tables in the bucket of a stack, whose name contains the account; nothing is asked before it is needed.

    Args:
        client_of: makes a boto3 client of a service.
        prefix: `shop-prod`, the start of the stack's names.
        where: the name of the place in messages.
    """

    def __init__(self, client_of: Callable[[str], Any], prefix: str, where: str) -> None:
        self._client_of = client_of
        self._prefix = prefix
        self._where = where
        self._bucket = ""
        self._known: dict[str, str] = {}

    @cached_property
    def _s3(self) -> Any:
        return self._client_of("s3")

    def read(self, name: str) -> str:
        """Return the text of a table; it is read once, because it never changes."""
        if name not in self._known:
            with self._translated_errors(name):
                answer = self._s3.get_object(Bucket=self._find_bucket(), Key=self._key(name))
                data = answer["Body"].read()
                parse_table(name, data)
            self._known[name] = data.decode()
        return self._known[name]

    def write(self, tables: Mapping[str, str]) -> None:
        """Write tables, again if they exist: the last one written is the last one to be deleted."""
        for name, text in tables.items():
            with self._translated_errors(name):
                self._s3.put_object(
                    Bucket=self._find_bucket(), Key=self._key(name), Body=text.encode(), ContentType="application/json"
                )
            self._known[name] = text

    def _key(self, name: str) -> str:
        return f"{TABLES_FOLDER}/{table_path(name)}"

    def _find_bucket(self) -> str:
        if not self._bucket:
            account = self._client_of("sts").get_caller_identity()["Account"]
            self._bucket = stack_bucket_name(self._prefix, account, self._s3.meta.region_name)
        return self._bucket

    @contextmanager
    def _translated_errors(self, name: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, TableError) as error:
            message = f"{self._where}: the table {self._key(name)} of bucket {self._bucket or '(unknown)'}: {error}"
            raise StageControlError(message.rstrip("."), TABLES_HINT) from error


class LambdaFunctions:
    """The functions behind a boto3 client of Lambda.

    Args:
        client: `boto3.client("lambda")`.
        pools: name that a pooled version's own function would have -> its pool's function.
    """

    def __init__(self, client: Any, pools: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._pools = pools or {}

    def has(self, name: str) -> bool:
        """Whether the function with this name and alias exists, `shop-local_iris_v2:live`; checked without running it.

        A pool is pinged for the version, which it then loads. The result is also true if it is unknown: a user without
        permission to call the function may still move the traffic.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        function, _, alias = name.partition(":")
        pool = self._pools.get(function)
        try:
            if pool is not None:
                payload = json.dumps(aim_at(PING, *split_function_name(function))).encode()
                answer = self._client.invoke(FunctionName=pool, Qualifier=alias, Payload=payload)
                return not answer.get("FunctionError") or UNKNOWN_VERSION not in answer["Payload"].read().decode()
            self._client.invoke(FunctionName=function, Qualifier=alias, InvocationType="DryRun")
        except ClientError as error:
            return bool(error.response.get("Error", {}).get("Code") != "ResourceNotFoundException")
        except BotoCoreError:
            return True
        return True


def make_client(service: str, target: StageTarget) -> Any:
    """Return a boto3 client for the place where a stage is served; nothing is sent yet.

    A local gateway checks no signature, so no credentials are needed; for AWS boto3 finds them. AWS_REGION names the
    region, as for Pulumi and AWS's other SDKs; boto3 alone reads only AWS_DEFAULT_REGION.

    Raises:
        StageControlError: there is no region, the address is invalid, or boto3 is not installed.
    """
    try:
        check_boto3(f"a stage of {target}")
    except MissingPackageError as error:
        raise StageControlError(str(error), error.hint) from None
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {"endpoint_url": target.endpoint_url or None, "region_name": os.environ.get("AWS_REGION")}
    if target.is_local:
        retries = {"total_max_attempts": 2}
        options |= {"region_name": "us-east-1", "config": Config(signature_version=UNSIGNED, retries=retries)}
    try:
        return make_aws_client(service, **options)
    except (BotoCoreError, ValueError) as error:
        raise StageControlError(f"{target} cannot be reached: {error}".rstrip("."), REGION) from error


def find_api_id(names: Mapping[str, str], api: str, where: str) -> str:
    """Return the identifier of the REST API called `api`.

    Args:
        names: the name of each REST API, by its identifier.
        api: the name in the plan.
        where: the name of the place in messages.

    Raises:
        StageControlError: none or several have the name.
    """
    ids = [key for key, name in names.items() if name == api]
    if len(ids) != 1:
        others = ", ".join(sorted(set(names.values()))) or "none"
        hint = f"Existing APIs: {others}. --stack names the Pulumi stack, which is part of the name."
        many = f"{len(ids)} REST APIs" if ids else "no REST API"
        raise StageControlError(f"{where} has {many} called {api}", hint)
    return ids[0]


def stage_state(answer: Mapping[str, Any]) -> StageState:
    """Return the state in a GetStage or UpdateStage response, which omits empty mappings."""
    canary = answer.get("canarySettings")
    return StageState(
        answer["deploymentId"],
        answer.get("variables") or {},
        None
        if canary is None
        else LiveCanary(
            float(canary.get("percentTraffic", 0.0)),
            canary.get("stageVariableOverrides") or {},
            canary.get("deploymentId", answer["deploymentId"]),
        ),
    )
