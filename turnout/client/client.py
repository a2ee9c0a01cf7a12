"""A client for a stage's API: arrays in, arrays out, at once or asynchronously."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import orjson

from turnout.client.connection import (
    INFERENCE_TIMEOUT_S,
    ApiAnswer,
    ApiConnection,
    UnreachableError,
    inference_path,
    make_path,
)
from turnout.protocol.naming import CALLBACK_HEADER, CANARY_HEADER, MODEL_HEADER, UPLOAD_HEADER, VERSION_HEADER
from turnout.protocol.requests.states import ENDED, RequestState
from turnout.system.files import file_digest

if TYPE_CHECKING:  # numpy takes most of the import time, and encoded requests do not need it
    from turnout.client.encoding import EncodedRequest
    from turnout.protocol.tensors.datatypes import Array

UPLOAD_BYTES = 4 * 1024 * 1024
"""Asynchronous bodies of this size or more are uploaded. API Gateway accepts 10 MB, and its functions less."""

FIRST_POLL_S, LONGEST_POLL_S, POLL_GROWTH = 0.1, 5.0, 1.5
"""Interval between two checks of a request's state."""

RANGE_BYTES = 8 * 1024 * 1024
"""Size of one piece of a download. After a failure, the piece is fetched again."""

TRIES = 5
"""Attempts for one piece of a download, or one part of an upload."""


class ApiError(Exception):
    """The API rejected a request, or the request failed.

    Args:
        status: the HTTP status.
        code: the error's code; empty for API Gateway's own errors.
        message: the error's message.
        details: the error's details.
    """

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({code or status})")
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details or {})


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """The answer of a version.

    Args:
        outputs: name -> array.
        model: the model that answered.
        version: the version that answered.
        share: `baseline` or `canary`.
    """

    outputs: Mapping[str, Array]
    model: str
    version: str
    share: str


class Client:
    """Calls the models of one stage. Not thread-safe.

    Args:
        url: the server's address, with the path before the stage.
        stage: the stage's name; empty for the default stage.
        api_key: sent as `x-api-key` unless it is empty.
        timeout_s: how long an answer may take.
        sleep: waits between two checks of a request's state.
        clock: monotonic seconds.

    Raises:
        ValueError: `url` is not a valid address.
    """

    def __init__(
        self,
        url: str,
        *,
        stage: str = "",
        api_key: str = "",
        timeout_s: float = INFERENCE_TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._stage = stage
        self._headers = {"x-api-key": api_key} if api_key else {}
        self._timeout_s = timeout_s
        self._connection = ApiConnection(url, timeout_s=timeout_s)
        self._datatypes: dict[tuple[str, str], Mapping[str, str]] = {}
        self.sleep = sleep
        self.clock = clock

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def infer(
        self, model: str, inputs: Mapping[str, Any], *, version: str = "", outputs: Sequence[str] = ()
    ) -> InferenceResult:
        """Call a model and return its answer.

        Args:
            model: its name.
            inputs: name -> array, or nested lists.
            version: the version to call; empty for the one that the stage serves.
            outputs: the outputs to return; all if empty.

        Raises:
            ApiError: the API rejected the request, or the version failed.
            UnreachableError: the server does not respond.
            TypeError: an input cannot be sent.
        """
        encoded = self._encode(model, version, inputs, outputs)
        path = inference_path(model, version, self._stage)
        return read_result(self.call("POST", path, encoded.body, encoded.headers))

    def infer_body(
        self, model: str, body: bytes, headers: Mapping[str, str] | None = None, *, version: str = ""
    ) -> ApiAnswer:
        """Send a request with an encoded body, and return the unprocessed answer with any status.

        Raises:
            UnreachableError: the server does not respond.
        """
        path = inference_path(model, version, self._stage)
        return self._connection.request("POST", path, body, {**self._headers, **(headers or {})})

    def submit(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        identifier: str = "",
        callback: str = "",
    ) -> PendingRequest:
        """Send an asynchronous request. Large inputs are uploaded first.

        Args:
            model: its name.
            inputs: name -> array, or nested lists.
            version: the version to call; empty for the one that the stage serves.
            outputs: the outputs to return; all if empty.
            identifier: your own identifier. A request that is sent twice runs once.
            callback: the address to send the result to.

        Raises:
            ApiError: the API rejected the request.
            UnreachableError: the server does not respond.
            TypeError: an input cannot be sent.
        """
        encoded = self._encode(model, version, inputs, outputs)
        return self.submit_body(
            model, encoded.body, encoded.headers, version=version, identifier=identifier, callback=callback
        )

    def submit_body(
        self,
        model: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        version: str = "",
        identifier: str = "",
        callback: str = "",
    ) -> PendingRequest:
        """Send an asynchronous request with an encoded body; see `submit`."""
        sent = {"prefer": "respond-async", **headers}
        if callback:
            sent[CALLBACK_HEADER] = callback
        if len(body) >= UPLOAD_BYTES:
            sent[UPLOAD_HEADER] = self.upload(body)
            body = b""
        if not identifier:
            answer = self.call("POST", inference_path(model, version, self._stage), body, sent)
        else:
            query = urlencode({"model": model, **({"version": version} if version else {})})
            answer = self.call("PUT", f"{self._path('requests', identifier)}?{query}", body, sent)
        if answer.status not in {200, 202} or "location" not in answer.headers:
            raise ApiError(answer.status, "ASYNC_NOT_ENABLED", "the stage accepts no asynchronous requests")
        return PendingRequest(self, answer.headers["location"], orjson.loads(answer.body))

    def request(self, identifier: str) -> PendingRequest:
        """Return a request that was sent before, by its identifier or its location."""
        location = identifier if "/" in identifier else self._path("requests", identifier)
        return PendingRequest(self, location, orjson.loads(self.call("GET", location).body))

    def upload(self, body: bytes) -> str:
        """Upload a body in parts and return the upload's identifier."""
        wish = orjson.dumps({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})
        upload = orjson.loads(self.call("POST", self._path("uploads"), wish).body)
        for part in upload["parts"]:
            piece = body[part["first_byte"] : part["first_byte"] + part["bytes"]]
            headers = {"content-type": "application/octet-stream"}
            self._transfer("PUT", part["address"], piece, headers)
        return str(upload["id"])

    def fetch(self, address: str, sha256: str = "") -> ApiAnswer:
        """Return an answer, following a redirect to a signed address.

        Args:
            address: the answer's address.
            sha256: its digest, as the API describes it; empty to skip the check.

        Raises:
            ApiError: the API rejected the request, or the answer has another digest.
            UnreachableError: the server does not respond.
        """
        if urlsplit(address).netloc:
            answer = self._transfer("GET", address, b"", {})
        else:
            answer = self.call("GET", address)
            if answer.status == 303:
                answer = self._transfer("GET", answer.headers["location"], b"", {})
        if sha256:
            check_digest(sha256, hashlib.sha256(answer.body).hexdigest())
        return answer

    def download(
        self,
        address: str,
        path: Path,
        progress: Callable[[int, int], None] = lambda *_: None,
        *,
        sha256: str = "",
    ) -> None:
        """Write an answer to a file, and resume an earlier download of it.

        Args:
            address: the answer's address.
            path: the file. Incomplete data is in a file next to it, whose name ends with `.part`.
            progress: called with the number of received bytes and of all bytes.
            sha256: see `fetch`. If the incomplete data is of another answer, everything is downloaded again.

        Raises:
            ApiError: the API rejected the request, or the answer has another digest.
            UnreachableError: the server does not respond.
        """
        if not urlsplit(address).netloc:
            answer = self.call("GET", address)
            if answer.status != 303:
                if sha256:
                    check_digest(sha256, hashlib.sha256(answer.body).hexdigest())
                path.write_bytes(answer.body)
                progress(len(answer.body), len(answer.body))
                return
            address = answer.headers["location"]
        part = path.with_name(f"{path.name}.part")
        is_resumed = part.exists()
        self._download_pieces(address, part, progress)
        if sha256 and is_resumed and file_digest(part) != sha256:
            part.unlink()
            self._download_pieces(address, part, progress)
        if sha256:
            digest = file_digest(part)
            if digest != sha256:
                part.unlink()
            check_digest(sha256, digest)
        part.replace(path)

    def _download_pieces(self, address: str, part: Path, progress: Callable[[int, int], None]) -> None:
        """Append what is missing to a file."""
        total = -1
        with part.open("ab") as file:
            while total < 0 or file.tell() < total:
                start = file.tell()
                headers = {"range": f"bytes={start}-{start + RANGE_BYTES - 1}"}
                answer = self._transfer("GET", address, b"", headers, allowed=(200, 206, 416))
                total = int(answer.headers.get("content-range", f"/{len(answer.body)}").rpartition("/")[2])
                if answer.status == 416 and start == total:
                    break
                if answer.status != 206:
                    # The content has changed, or the server does not support ranges.
                    file.seek(0)
                    file.truncate()
                    total = -1 if answer.status == 416 else total
                if answer.status != 416:
                    file.write(answer.body)
                progress(file.tell(), total)

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> ApiAnswer:
        """Send one request to the API.

        Raises:
            ApiError: the API rejected it.
            UnreachableError: the server does not respond.
        """
        answer = self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        if answer.status >= 400:
            raise make_error(answer)
        return answer

    def _path(self, *segments: str) -> str:
        return make_path(self._stage, *segments)

    def _encode(self, model: str, version: str, inputs: Mapping[str, Any], outputs: Sequence[str]) -> EncodedRequest:
        from turnout.client.encoding import encode_request

        return encode_request(inputs, self._find_datatypes(model, version), outputs)

    def _find_datatypes(self, model: str, version: str) -> Mapping[str, str]:
        """The declared datatypes of a model's inputs, fetched once; empty if the catalogue does not have them."""
        key = (model, version)
        if key not in self._datatypes:
            try:
                page = orjson.loads(self.call("GET", self._path("models", model)).body)
            except ApiError:
                page = {}
            served = [entry["version"] for entry in page.get("serves", ())]
            named = {entry["name"]: entry.get("inputs", ()) for entry in page.get("versions", ())}
            chosen = version or next(iter(served), "")
            inputs = named.get(chosen) or page.get("inputs") or ()
            self._datatypes[key] = {entry["name"]: entry["datatype"] for entry in inputs}
        return self._datatypes[key]

    def _transfer(
        self,
        method: str,
        address: str,
        body: bytes,
        headers: Mapping[str, str],
        allowed: Sequence[int] = (200, 206),
    ) -> ApiAnswer:
        """Send a request to a signed address, and retry if the connection breaks."""
        parts = urlsplit(urljoin(self._url + "/", address))
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection = ApiConnection(f"{parts.scheme}://{parts.netloc}", timeout_s=self._timeout_s)
        try:
            for attempt in range(TRIES):
                try:
                    answer = connection.request(method, target, body, headers)
                except UnreachableError:
                    if attempt == TRIES - 1:
                        raise
                    self.sleep(FIRST_POLL_S * 2**attempt)
                    continue
                if answer.status in allowed:
                    return replace(answer, headers=without_prefix(answer.headers))
                raise make_error(answer)
        finally:
            connection.close()
        raise AssertionError("the loop returns or raises")


class PendingRequest:
    """An asynchronous request that was accepted.

    Args:
        client: the client that sent it.
        location: its address.
        description: the API's latest description of it.
    """

    def __init__(self, client: Client, location: str, description: dict[str, Any]) -> None:
        self._client = client
        self.location = location
        self.description = description

    @property
    def id(self) -> str:
        """The request's identifier."""
        return str(self.description["id"])

    @property
    def state(self) -> RequestState:
        """The state that the API returned last."""
        return RequestState(self.description["state"])

    def refresh(self) -> RequestState:
        """Fetch and return the current state."""
        self.description = orjson.loads(self._client.call("GET", self.location).body)
        return self.state

    def wait(self, timeout_s: float | None = None, progress: Callable[[RequestState], None] = lambda _: None) -> None:
        """Wait until it has ended, polling at growing intervals.

        Args:
            timeout_s: how long to wait; None for no limit.
            progress: called with each state.

        Raises:
            TimeoutError: it has not ended by then. The request continues.
        """
        client = self._client
        started, pause_s = client.clock(), FIRST_POLL_S
        while self.state not in ENDED:
            if timeout_s is not None and client.clock() - started >= timeout_s:
                raise TimeoutError(f"request {self.id} has not ended within {timeout_s:g} s")
            progress(self.state)
            left_s = pause_s if timeout_s is None else min(pause_s, started + timeout_s - client.clock())
            client.sleep(max(0.0, left_s))
            pause_s = min(LONGEST_POLL_S, pause_s * POLL_GROWTH)
            self.refresh()

    def result(self, timeout_s: float | None = None) -> InferenceResult:
        """Wait for the answer and return it.

        Raises:
            ApiError: the request failed, expired or was canceled.
            TimeoutError: it has not ended by then. The request continues.
        """
        address = self.answer_address(timeout_s)
        return read_result(self._client.fetch(address, self.answer_sha256))

    def answer_address(self, timeout_s: float | None = None) -> str:
        """Wait until it is done and return the address of its answer. Raises the same errors as `result`."""
        self.wait(timeout_s)
        if self.state is RequestState.DONE:
            self.refresh()  # a signed address may have expired
            return str(self.description["answer"]["address"])
        error = self.description.get("error") or {}
        message = error.get("error", f"the request is {self.state}")
        raise ApiError(
            error.get("status", 0), error.get("code", str(self.state).upper()), message, error.get("details")
        )

    @property
    def answer_sha256(self) -> str:
        """The answer's digest; empty before there is an answer."""
        return str((self.description.get("answer") or {}).get("sha256", ""))

    def close(self) -> None:
        """Close the client's connection; the next call opens another."""
        self._client.close()

    def cancel(self) -> None:
        """Cancel it if it has not started.

        Raises:
            ApiError: it has started or ended.
        """
        self.description = orjson.loads(self._client.call("DELETE", self.location).body)


def check_digest(expected: str, got: str) -> None:
    """Raise an ApiError if an answer does not have the digest that the API described."""
    if got != expected:
        details = {"expected": expected, "got": got}
        raise ApiError(0, "DIGEST_MISMATCH", f"the answer's SHA-256: expected {expected}, got {got}", details)


METADATA = "x-amz-meta-"
"""The prefix that S3 adds to the names of an answer's own headers."""


def without_prefix(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an answer, with or without the storage's prefix."""
    own = {name.removeprefix(METADATA): value for name, value in headers.items() if name.startswith(METADATA)}
    return {**headers, **own}


def read_result(answer: ApiAnswer) -> InferenceResult:
    """Decode the answer of a version."""
    from turnout.client.outputs import read_outputs

    headers = answer.headers
    share = "canary" if headers.get(CANARY_HEADER) == "true" else "baseline"
    outputs = read_outputs(headers, answer.body)
    return InferenceResult(outputs, headers.get(MODEL_HEADER, ""), headers.get(VERSION_HEADER, ""), share)


def make_error(answer: ApiAnswer) -> ApiError:
    """Return the error in an answer."""
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        said = {}
    said = said if isinstance(said, dict) else {}
    message = said.get("error") or said.get("message") or f"the server answered with status {answer.status}"
    return ApiError(answer.status, str(said.get("code", "")), str(message), said.get("details"))
