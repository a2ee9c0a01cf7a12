"""A stage of `turnout serve` and its functions, read and changed over HTTP without boto3.

Local canaries must work in a plain installation, which lacks boto3. The gateway checks no signatures, so three requests
of AWS's wire protocol are enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from turnout.canary.rollout.stage_control import (
    NO_SERVER,
    StageControlError,
    StageOperation,
    StageState,
    find_api_id,
    stage_state,
)
from turnout.client.connection import ApiAnswer, ApiConnection, UnreachableError
from turnout.protocol.naming import OWN_SEGMENT
from turnout.protocol.routing.choice_tables import TABLES_FOLDER, TableError, parse_table, table_path
from turnout.system.service_tokens import service_headers

NOT_TURNOUT = "Check that it is the address of `turnout serve`."


class LocalStage:
    """One stage behind the control plane of a local gateway.

    Args:
        url: the gateway's URL, `http://127.0.0.1:8080`.
        api: the REST API's name in the plan.
        stage: the stage's name.
        token: the token that the gateway's services require, or empty.
    """

    def __init__(self, url: str, api: str, stage: str, token: str = "") -> None:
        self._url = url
        self._token = token
        self._api = api
        self._stage = stage
        self._id = ""
        self._tables: dict[str, str] = {}

    def read(self) -> StageState:
        """Return the stage as it is served now."""
        state = self._state(self._send("GET", self._path()))
        return replace(state, tables={name: self._read_table(name) for name in state.named_tables()})

    def update(self, operations: Sequence[StageOperation]) -> None:
        """Apply all operations in one call, or none of them."""
        body = json.dumps({"patchOperations": [dict(operation) for operation in operations]}).encode()
        self._state(self._send("PATCH", self._path(), body))

    def store(self, tables: Mapping[str, str]) -> None:
        """Write tables of choices into the gateway's project."""
        for name, text in tables.items():
            self._send("PUT", table_address(name), text.encode())
            self._tables[name] = text

    def _read_table(self, name: str) -> str:
        """Return the text of a table; it is read once, because it never changes."""
        if name not in self._tables:
            self._tables[name] = json.dumps(self._send("GET", table_address(name)), separators=(",", ":"))
            try:
                parse_table(name, self._tables[name].encode())
            except TableError as error:
                raise StageControlError(f"{self._url}: {error}", NOT_TURNOUT) from error
        return self._tables[name]

    def url(self) -> str:
        """Return the gateway's own address."""
        return self._url

    def _path(self) -> str:
        if not self._id:
            apis = self._send("GET", "/restapis?limit=500")
            try:
                names = {api["id"]: api["name"] for api in apis["item"]}
            except (LookupError, TypeError):
                raise self._not_turnout() from None
            self._id = find_api_id(names, self._api, self._url)
        return f"/restapis/{quote(self._id, safe='')}/stages/{quote(self._stage, safe='')}"

    def _send(self, method: str, path: str, body: bytes = b"") -> Mapping[str, Any]:
        answer = send(self._url, method, path, body, service_headers(self._token))
        try:
            tree = json.loads(answer.body)
        except ValueError:
            tree = None
        if not isinstance(tree, dict):
            raise self._not_turnout()
        if answer.status >= 400:
            code = answer.headers.get("x-amzn-errortype", f"HTTP {answer.status}")
            message = f"{self._url} rejected the change of stage {self._stage}: {code}: {tree.get('message')}"
            raise StageControlError(message)
        return tree

    def _state(self, stage: Mapping[str, Any]) -> StageState:
        try:
            return stage_state(stage)
        except (LookupError, TypeError, AttributeError):
            raise self._not_turnout() from None

    def _not_turnout(self) -> StageControlError:
        return StageControlError(f"{self._url} is not an API Gateway control plane", NOT_TURNOUT)


def table_address(name: str) -> str:
    """Return the path of a table at the gateway."""
    return f"/{OWN_SEGMENT}/{TABLES_FOLDER}/{quote(table_path(name))}"


class LocalFunctions:
    """The functions of a local gateway.

    Args:
        url: the gateway's URL.
        token: the one that its services require, or empty.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url
        self._token = token

    def has(self, name: str) -> bool:
        """Whether the function with this name and alias exists, `shop-local_iris_v2:live`; the function does not run.

        Also true if the gateway does not say.
        """
        function, _, alias = name.partition(":")
        path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations?{urlencode({'Qualifier': alias})}"
        try:
            headers = {"x-amz-invocation-type": "DryRun", **service_headers(self._token)}
            answer = send(self._url, "POST", path, headers=headers)
        except StageControlError:
            return True
        return answer.headers.get("x-amzn-errortype") != "ResourceNotFoundException"


def send(url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> ApiAnswer:
    """Send one request to the gateway at `url`.

    Raises:
        StageControlError: `url` is not an address, or no answer comes.
    """
    try:
        with closing(ApiConnection(url)) as connection:
            return connection.request(method, path, body, headers)
    except UnreachableError as error:
        raise StageControlError(f"{url} cannot be reached: {error}".rstrip("."), NO_SERVER) from error
    except ValueError as error:
        raise StageControlError(str(error)) from error
