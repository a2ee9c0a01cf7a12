from __future__ import annotations

import pytest

from turnout.gateway.docs.access import find_reader
from turnout.gateway.services.access import make_guard
from turnout.http_server.messages import Request

HERE = {"host": "127.0.0.1:8080"}
TAB = {**HERE, "accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
LOCAL, TOKEN = make_guard(""), make_guard("secret")


def ask(headers: dict[str, str], *, client: str = "127.0.0.1", method: str = "GET", path: str = "/docs") -> Request:
    return Request(method, path, "", tuple(headers.items()), b"", client)


@pytest.mark.parametrize(
    "headers",
    [
        HERE,
        {"host": "localhost"},
        {"host": "[::1]:8080"},
        {**TAB, "sec-fetch-site": "none"},
        {**TAB, "sec-fetch-site": "same-origin"},
        {**TAB, "sec-fetch-site": "cross-site"},  # a link in a chat
        {**HERE, "sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "style"},
    ],
)
def test_users_and_programs_on_this_machine_may_read_everything(headers: dict[str, str]) -> None:
    reader = find_reader(ask(headers), LOCAL, is_public=False)
    assert (reader.is_trusted, reader.refusal) == (True, "")


@pytest.mark.parametrize(
    ("headers", "client", "sentence"),
    [
        ({"host": "evil.example:8080"}, "127.0.0.1", "not an address of this machine"),  # DNS rebinding
        ({**TAB, "host": "evil.example"}, "127.0.0.1", "not an address of this machine"),
        ({"host": "127.0.0.1.evil.example"}, "127.0.0.1", "not an address of this machine"),
        (HERE, "192.0.2.7", "Only clients on this machine"),
        ({**HERE, "x-forwarded-for": "192.0.2.7"}, "127.0.0.1", "proxy"),
        ({**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}, "127.0.0.1", "Another site"),
        ({**TAB, "sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}, "127.0.0.1", "Another site"),
        ({**HERE, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, "127.0.0.1", "Another site"),
    ],
)
def test_other_machines_and_other_sites_may_read_nothing(headers: dict[str, str], client: str, sentence: str) -> None:
    reader = find_reader(ask(headers, client=client), LOCAL, is_public=False)
    assert not reader.is_trusted
    assert sentence in reader.refusal


def test_a_public_server_shows_other_machines_only_public_stages() -> None:
    stranger = find_reader(ask({**TAB, "host": "api.example"}, client="192.0.2.7"), TOKEN, is_public=True)
    assert (stranger.is_trusted, stranger.refusal) == (False, "")
    known = {"host": "api.example", "authorization": "Bearer secret"}
    assert find_reader(ask(known, client="192.0.2.7"), TOKEN, is_public=True).is_trusted
    embedded = {**TAB, "sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"}
    assert find_reader(ask(embedded, client="192.0.2.7"), TOKEN, is_public=True).refusal
