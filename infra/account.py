"""The account in the stack's region: what the program needs from it and Pulumi cannot know or do.

Only AWS knows the account's quotas and the layers of earlier deployments, and old versions of a function are not
resources of Pulumi. If boto3 finds other credentials than the provider, or a permission is missing, the program
continues without this information.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pulumi

from turnout.aws_client import make_aws_client
from turnout.protocol.naming import ALIAS_VARIABLE, NEXT
from turnout.protocol.routing.choice_tables import TABLES_FOLDER

from .naming import Place
from .stack.choice_tables import StoredTable, find_old_tables

DIGEST = "sha256 "
"""The prefix of a layer version's description; the digest of its zip follows."""


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Lambda's settings of the account in one region.

    Args:
        code_bytes: the limit for the versions and layers of all functions together.
        code_bytes_used: how much of it is used.
        concurrency: how many calls may run at once.
    """

    code_bytes: int
    code_bytes_used: int
    concurrency: int


class Account(Protocol):
    """What the program asks of the account."""

    def settings(self, place: Place) -> AccountSettings | None:
        """Lambda's settings; None if they cannot be read."""
        ...

    def logs_role(self, place: Place) -> str | None:
        """The role with which API Gateway writes logs, empty if none is set; None if it cannot be read."""
        ...

    def layers(self, place: Place) -> Mapping[str, Sequence[str]]:
        """The stack's layers by name, each with the digests of its versions, newest first."""
        ...

    def next_stages(self, place: Place, rest_apis: Mapping[str, str]) -> Collection[str] | None:
        """The deployed stages that call functions through the alias `next`; None if they cannot be read.

        Args:
            place: account, region and prefix of the stack.
            rest_apis: stage -> the identifier of its API.
        """
        ...

    def prune(self, place: Place, functions: Collection[str], keep: int) -> Sequence[tuple[str, str]]:
        """Delete old versions of functions. The versions that aliases name, the newest one, and `keep` more stay.

        Returns:
            (function, version) of each deleted version.
        """
        ...

    def prune_tables(self, place: Place, served: Collection[str]) -> Sequence[str]:
        """Delete tables of choices that no request needs; return their keys.

        Args:
            place: account, region and prefix of the stack.
            served: keys of the tables that stages name.
        """
        ...


class BotoAccount:
    """The account of boto3's credentials, if it is the provider's account."""

    def settings(self, place: Place) -> AccountSettings | None:
        """See `Account`; needs `lambda:GetAccountSettings`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client(place)
            if client is None:
                return None
            response = client.get_account_settings()
            limit, usage = response["AccountLimit"], response["AccountUsage"]
            return AccountSettings(limit["TotalCodeSize"], usage["TotalCodeSize"], limit["ConcurrentExecutions"])
        except (BotoCoreError, ClientError, KeyError) as error:
            pulumi.log.debug(f"Lambda's account settings cannot be read: {error}")
            return None

    def logs_role(self, place: Place) -> str | None:
        """See `Account`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client(place, "apigateway")
            return None if client is None else client.get_account().get("cloudwatchRoleArn") or ""
        except (BotoCoreError, ClientError) as error:
            pulumi.log.debug(f"API Gateway's account settings cannot be read: {error}")
            return None

    def layers(self, place: Place) -> Mapping[str, Sequence[str]]:
        """See `Account`; needs `lambda:ListLayers` and `lambda:ListLayerVersions`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client(place)
            return {} if client is None else dict(_list_layers(client, place.name("layer")))
        except (BotoCoreError, ClientError) as error:
            pulumi.warn(f"cannot list the layers of earlier deployments, so only the newest are kept: {error}")
            return {}

    def next_stages(self, place: Place, rest_apis: Mapping[str, str]) -> Collection[str] | None:
        """See `Account`; needs `apigateway:GET` on the stages."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = self._client(place, "apigateway")
            return None if client is None else find_next_stages(client, rest_apis)
        except (BotoCoreError, ClientError) as error:
            pulumi.log.debug(f"the stages cannot be read: {error}")
            return None

    def prune(self, place: Place, functions: Collection[str], keep: int) -> Sequence[tuple[str, str]]:
        """See `Account`; needs `lambda:ListFunctions`, `lambda:ListAliases` and `lambda:DeleteFunction`."""
        from botocore.exceptions import BotoCoreError, ClientError

        deleted: list[tuple[str, str]] = []
        try:
            client = self._client(place)
            if client is None:
                return []
            for name, old in _list_old(client, functions, keep):
                for version in old:
                    client.delete_function(FunctionName=name, Qualifier=version)
                    deleted.append((name, version))
        except (BotoCoreError, ClientError) as error:
            pulumi.warn(f"old versions of functions cannot be deleted; the next `pulumi up` tries again: {error}")
        return deleted

    def prune_tables(self, place: Place, served: Collection[str]) -> Sequence[str]:
        """See `Account`; needs `s3:ListBucket` and `s3:DeleteObject`."""
        from botocore.exceptions import BotoCoreError, ClientError

        old: list[str] = []
        try:
            client = self._client(place, "s3")
            if client is None:
                return []
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=f"{TABLES_FOLDER}/")
            stored = [
                StoredTable(item["Key"], item["LastModified"]) for page in pages for item in page.get("Contents", ())
            ]
            old = find_old_tables(stored, served, self.now())
            for key in old:
                client.delete_object(Bucket=place.bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            pulumi.warn(f"old tables of choices cannot be deleted; the next `pulumi up` tries again: {error}")
        return old

    def now(self) -> datetime:
        """Return the present time."""
        return datetime.now(UTC)

    def _client(self, place: Place, service: str = "lambda") -> Any:
        """A client of one service, or None if the credentials belong to another account."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(profile_name=pulumi.Config("aws").get("profile"), region_name=place.region)
        quick = Config(connect_timeout=5, retries={"max_attempts": 2})
        if make_aws_client("sts", session=session, config=quick).get_caller_identity()["Account"] != place.account:
            pulumi.log.debug("boto3 and Pulumi's provider use credentials of different accounts")
            return None
        # Lambda's control plane allows 15 calls a second for the whole account.
        return make_aws_client(
            service, session=session, config=Config(retries={"mode": "adaptive", "max_attempts": 10})
        )


def find_next_stages(client: Any, rest_apis: Mapping[str, str]) -> set[str]:
    """Return the stages whose variables or canary overrides name the alias `next`. Deleted stages are skipped.

    Args:
        client: boto3's client of API Gateway.
        rest_apis: stage -> the identifier of its API.
    """
    result = set()
    for name, rest_api in rest_apis.items():
        try:
            stage = client.get_stage(restApiId=rest_api, stageName=name)
        except client.exceptions.NotFoundException:
            continue
        overrides = (stage.get("canarySettings") or {}).get("stageVariableOverrides") or {}
        if NEXT in {(stage.get("variables") or {}).get(ALIAS_VARIABLE), overrides.get(ALIAS_VARIABLE)}:
            result.add(name)
    return result


def _list_layers(client: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
    for page in client.get_paginator("list_layers").paginate():
        for layer in page["Layers"]:
            name = layer["LayerName"]
            if name.startswith(f"{prefix}_"):
                pages = client.get_paginator("list_layer_versions").paginate(LayerName=name)
                descriptions = [version.get("Description", "") for page in pages for version in page["LayerVersions"]]
                yield name, [text.removeprefix(DIGEST) for text in descriptions if text.startswith(DIGEST)]


def _list_old(client: Any, functions: Collection[str], keep: int) -> Iterator[tuple[str, list[str]]]:
    """List all versions once; query aliases only of functions with more versions than may stay."""
    versions: dict[str, list[str]] = {}
    for page in client.get_paginator("list_functions").paginate(FunctionVersion="ALL"):
        for function in page["Functions"]:
            if function["FunctionName"] in functions and function["Version"] != "$LATEST":
                versions.setdefault(function["FunctionName"], []).append(function["Version"])
    for name, versions_of in sorted(versions.items()):
        if len(versions_of) <= keep + 1:
            continue
        pages = client.get_paginator("list_aliases").paginate(FunctionName=name)
        yield name, find_old(versions_of, [alias for page in pages for alias in page["Aliases"]], keep)


def find_old(versions: Sequence[str], aliases: Sequence[Mapping[str, Any]], keep: int) -> list[str]:
    """Return the versions of a function that nothing needs, oldest first.

    Args:
        versions: the numbers of all versions.
        aliases: as ListAliases returns them; a weighted alias names two versions.
        keep: how many versions stay in addition to the newest and those that aliases name.
    """
    named = {alias["FunctionVersion"] for alias in aliases}
    for alias in aliases:
        named |= ((alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}).keys()
    newest_first = sorted(versions, key=int, reverse=True)
    idle = [version for version in newest_first[1:] if version not in named]
    return idle[keep:][::-1]
