"""Credentials from the environment, or from the runtime's server as with SnapStart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.builders.credentials_server import CredentialsServer, serve_credentials
from turnout.protocol.aws.credentials import (
    ATTEMPTS,
    REFRESHED_S,
    RETRIED_S,
    TOKEN,
    TOKEN_FILE,
    URI,
    CredentialsError,
    CredentialSource,
    check_uri,
)
from turnout.protocol.aws.signing import Credentials

START_S = 1_800_000_000.0
SERVED = Credentials("local", "secret", "token")


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Scene:
    """A source with a fake clock; its pauses take no time."""

    def __init__(self, server: CredentialsServer, **environ: str) -> None:
        self.now_s = START_S
        self.server = server
        self.pauses: list[float] = []
        self.environ = {**server.environ, **environ}
        self.source = CredentialSource(self.environ, wall_clock=lambda: self.now_s, sleep=self.pauses.append)


@pytest.fixture
def server() -> Iterator[CredentialsServer]:
    with serve_credentials() as served:
        served.expiration = iso(START_S + 3600)
        yield served


def test_access_keys_of_the_environment_are_used_first(server: CredentialsServer) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    scene = Scene(server, **keys)
    assert scene.source.current() == Credentials("a", "b", "c")
    scene.environ |= {"AWS_ACCESS_KEY_ID": "d"}
    assert scene.source.current().access_key == "d"
    assert server.requests == 0


@pytest.mark.parametrize("keys", [{}, {"AWS_ACCESS_KEY_ID": ""}, {"AWS_ACCESS_KEY_ID": "a"}])
def test_the_server_is_asked_once_if_keys_are_missing(server: CredentialsServer, keys: dict[str, str]) -> None:
    scene = Scene(server, **keys)
    assert [scene.source.current() for _ in range(3)] == [SERVED] * 3
    assert server.requests == 1


def test_a_source_without_keys_and_server_reports_the_missing_variables() -> None:
    with pytest.raises(CredentialsError, match=f"neither AWS_ACCESS_KEY_ID nor {URI} is set"):
        CredentialSource({}).current()


def test_credentials_are_replaced_before_they_expire(server: CredentialsServer) -> None:
    scene = Scene(server)
    scene.source.current()
    scene.now_s = START_S + 3600 - REFRESHED_S - 1
    assert scene.source.current() == SERVED
    server.keys = ("new", "secret", "token")
    server.expiration = iso(START_S + 7200)
    scene.now_s += 2
    assert scene.source.current().access_key == "new"
    assert server.requests == 2


def test_a_snapshot_restored_later_gets_new_credentials_with_its_new_token(server: CredentialsServer) -> None:
    scene = Scene(server)
    scene.source.current()
    scene.now_s += 24 * 3600
    server.keys, server.token = ("new", "secret", "token"), "another-token"
    server.expiration = iso(scene.now_s + 3600)
    scene.environ[TOKEN] = "another-token"
    assert scene.source.current().access_key == "new"


def test_usable_credentials_are_kept_while_the_server_fails(server: CredentialsServer) -> None:
    scene = Scene(server)
    scene.source.current()
    scene.now_s = START_S + 3600 - 60
    server.statuses = [500] * 100
    assert [scene.source.current() for _ in range(3)] == [SERVED] * 3
    assert server.requests == 1 + ATTEMPTS
    scene.now_s += RETRIED_S
    scene.source.current()
    assert server.requests == 1 + 2 * ATTEMPTS
    scene.now_s = START_S + 3601
    with pytest.raises(CredentialsError, match="the server answered 500"):
        scene.source.current()


def test_short_lived_credentials_are_not_fetched_for_each_call(server: CredentialsServer) -> None:
    server.expiration = iso(START_S + 120)
    scene = Scene(server)
    for _ in range(5):
        scene.source.current()
    assert server.requests == 1


def test_credentials_without_an_expiry_are_kept(server: CredentialsServer) -> None:
    server.expiration = None
    scene = Scene(server)
    scene.source.current()
    scene.now_s += 10**9
    assert scene.source.current() == SERVED
    assert server.requests == 1


@pytest.mark.parametrize("statuses", [[503], [500, 429]])
def test_a_failing_server_is_asked_again(server: CredentialsServer, statuses: list[int]) -> None:
    server.statuses = list(statuses)
    scene = Scene(server)
    assert scene.source.current() == SERVED
    assert len(scene.pauses) == len(statuses)


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (302, 1), (500, ATTEMPTS)])
def test_a_rejection_names_the_variable_and_the_status(server: CredentialsServer, status: int, requests: int) -> None:
    server.statuses = [status] * 9
    with pytest.raises(CredentialsError, match=f"{URI}: the server answered {status}"):
        Scene(server).source.current()
    assert server.requests == requests


def test_an_unreachable_server_is_an_error(server: CredentialsServer) -> None:
    scene = Scene(server, **{URI: "http://127.0.0.1:1/"})
    with pytest.raises(CredentialsError, match="ConnectionRefusedError"):
        scene.source.current()
    assert len(scene.pauses) == ATTEMPTS - 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"text", b"[]", b"{}", b'{"AccessKeyId": "a"}', b'{"AccessKeyId": "", "SecretAccessKey": "b"}',
        b'{"AccessKeyId": 1, "SecretAccessKey": 2}', b'{"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"soon"}',
    ],
)  # fmt: skip
def test_an_answer_without_credentials_is_an_error(server: CredentialsServer, body: bytes) -> None:
    server.body = body
    with pytest.raises(CredentialsError, match="the server's answer contains no credentials"):
        Scene(server).source.current()


def test_expired_credentials_are_rejected(server: CredentialsServer) -> None:
    server.expiration = iso(START_S)
    with pytest.raises(CredentialsError, match="have expired"):
        Scene(server).source.current()


def test_no_message_contains_a_secret(server: CredentialsServer) -> None:
    server.statuses = [403]
    with pytest.raises(CredentialsError) as raised:
        Scene(server).source.current()
    assert server.token not in str(raised.value)


def test_the_token_file_overrides_the_token_and_is_read_each_time(server: CredentialsServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{server.token}\n")
    scene = Scene(server, **{TOKEN: "wrong", TOKEN_FILE: str(file)})
    assert scene.source.current() == SERVED
    server.token = "rotated"
    file.write_text("rotated")
    scene.now_s += 3500
    server.keys = ("new", "secret", "token")
    server.expiration = iso(scene.now_s + 3600)
    assert scene.source.current().access_key == "new"


def test_a_missing_token_file_is_an_error(server: CredentialsServer, tmp_path: Path) -> None:
    scene = Scene(server, **{TOKEN_FILE: str(tmp_path / "none")})
    with pytest.raises(CredentialsError, match=f"{TOKEN_FILE}: .*none cannot be read: FileNotFoundError"):
        scene.source.current()
    assert server.requests == 0


@pytest.mark.parametrize("token", ["two\nlines", "a\r\nx: y", "é"])
def test_a_token_that_would_forge_a_header_is_rejected(server: CredentialsServer, token: str) -> None:
    with pytest.raises(CredentialsError, match="not a valid header value"):
        Scene(server, **{TOKEN: token}).source.current()
    assert server.requests == 0


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9001/2021-04-23/credentials", "http://localhost/a?b=c", "http://[::1]:80/", "http://127.9.9.9/",
        "http://169.254.170.2/v2", "http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1",
        "https://credentials.example.com/x",
    ],
)  # fmt: skip
def test_allowed_addresses_of_credential_servers(uri: str) -> None:
    assert check_uri(uri).hostname


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/", "http://10.0.0.1/", "http://localhost.example.com/", "http://0.0.0.0/",
        "http://2130706433/", "http://127.0.0.1.nip.io/", "http://169.254.example.com/", "http://[fe80::1]/", "ftp://127.0.0.1/",
        "/credentials", "http://", "http://127.0.0.1:port/", "http://user@127.0.0.1/", "http://[::1/", "",
    ],
)  # fmt: skip
def test_rejected_addresses_of_credential_servers(uri: str) -> None:
    with pytest.raises(CredentialsError, match=URI):
        check_uri(uri)


def test_threads_share_one_request(server: CredentialsServer) -> None:
    scene = Scene(server)
    results: list[Credentials] = []
    threads = [threading.Thread(target=lambda: results.append(scene.source.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [SERVED] * 8
    assert server.requests == 1
