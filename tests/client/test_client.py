"""The client checks the digest of an answer before it returns it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.loopback_server import QuietHandler, loopback_server
from turnout.client import ApiError, Client

ANSWER = b'{"outputs": {"y": [1.0]}}'


class Server(QuietHandler):
    """Describes a request that is done, and returns a changed answer, at once or from another address."""

    def do_GET(self) -> None:
        if self.path.endswith("/answer"):
            self.respond(200, ANSWER.replace(b"1", b"2"))
        elif self.path == "/large":
            self.respond(206, ANSWER.replace(b"1", b"2"), content_range=f"bytes 0-{len(ANSWER) - 1}/{len(ANSWER)}")
        else:
            large = f"http://{self.headers['host']}/large"
            address = large if "large" in self.path else "/requests/small/answer"
            answer = {"address": address, "sha256": hashlib.sha256(ANSWER).hexdigest(), "bytes": len(ANSWER)}
            self.respond(200, json.dumps({"id": "1", "state": "done", "answer": answer}).encode())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with loopback_server(Server) as made:
        yield made


@pytest.mark.parametrize("identifier", ["small", "large"])
def test_changed_answer_is_rejected(url: str, identifier: str, tmp_path: Path) -> None:
    with Client(url) as client:
        pending = client.request(identifier)
        with pytest.raises(ApiError, match="SHA-256: expected") as refused:
            pending.result()
        assert refused.value.code == "DIGEST_MISMATCH"
        with pytest.raises(ApiError, match="SHA-256"):
            client.download(pending.answer_address(), tmp_path / "answer", sha256=pending.answer_sha256)
        assert list(tmp_path.iterdir()) == []
        client.download(pending.answer_address(), tmp_path / "answer")
    assert (tmp_path / "answer").read_bytes() == ANSWER.replace(b"1", b"2")
