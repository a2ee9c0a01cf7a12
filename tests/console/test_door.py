from __future__ import annotations

import pytest

from turnout.console.door import Door
from turnout.http_server.messages import Request

DOOR = Door(token="the-token", session="the-session")
OPEN = Door(token="the-token", session="the-session", is_open=True, may_write=False)

BROWSER = {"host": "127.0.0.1:8080", "sec-fetch-site": "same-origin", "cookie": f"{DOOR.cookie}=the-session"}
WRITE = {**BROWSER, "content-type": "application/json", "origin": "http://127.0.0.1:8080"}


def ask(headers: dict[str, str], *, method: str = "GET", client: str = "127.0.0.1", query: str = "") -> Request:
    return Request(method, "/console/state", query, tuple(headers.items()), b"{}", client)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_the_page_of_this_run_is_allowed(host: str) -> None:
    assert DOOR.find_objection(ask({**BROWSER, "host": host})) == ""


def test_the_address_is_exchanged_for_a_cookie() -> None:
    answer = DOOR.let_in(ask({"host": "127.0.0.1:8080"}, query="token=the-token"))
    assert answer is not None
    assert answer.status == 303
    headers = dict(answer.headers)
    assert headers["Location"] == "/console/"
    assert headers["Set-Cookie"] == f"{DOOR.cookie}=the-session; Path=/console; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize("query", ["token=another", "token=the-token%00", "token=the-tokenn"])
def test_the_address_of_another_run_is_rejected(query: str) -> None:
    answer = DOOR.let_in(ask({"host": "127.0.0.1:8080"}, query=query))
    assert answer is not None
    assert answer.status == 403
    assert all(name != "Set-Cookie" for name, _ in answer.headers)


def test_without_a_token_no_cookie_is_set() -> None:
    assert DOOR.let_in(ask(BROWSER)) is None
    assert DOOR.let_in(ask(BROWSER, method="POST", query="token=the-token")) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"host": "evil.example:8080"}, "not an address of this machine"),  # DNS rebinding
        ({"host": "127.0.0.1.evil.example"}, "not an address of this machine"),
        ({"host": ""}, "not an address of this machine"),
        ({"sec-fetch-site": "cross-site"}, "another site"),
        ({"sec-fetch-site": "same-site"}, "another site"),
        ({"sec-fetch-site": "none"}, "another site"),
        ({"sec-fetch-site": ""}, "another site"),
        ({"cookie": ""}, "Open the console by the address"),
        ({"cookie": f"{DOOR.cookie}=guessed"}, "Open the console by the address"),
        ({"cookie": f"other=the-session; {DOOR.cookie}="}, "Open the console by the address"),
        ({"x-forwarded-for": "192.0.2.1"}, "proxy"),
        ({"via": "1.1 proxy"}, "proxy"),
    ],
)
def test_all_other_requests_are_rejected(change: dict[str, str], sentence: str) -> None:
    assert sentence in DOOR.find_objection(ask({**BROWSER, **change}))


def test_clients_of_other_machines_are_rejected() -> None:
    assert "on this machine" in DOOR.find_objection(ask(BROWSER, client="192.0.2.7"))


@pytest.mark.parametrize(("site", "is_allowed"), [("none", True), ("same-origin", True), ("cross-site", False)])
def test_a_user_may_open_the_page_by_hand(site: str, is_allowed: bool) -> None:
    objection = DOOR.find_objection(ask({**BROWSER, "sec-fetch-site": site}), is_page=True)
    assert (objection == "") is is_allowed


def test_a_change_from_the_page_is_allowed() -> None:
    assert DOOR.find_objection(ask(WRITE, method="POST")) == ""


@pytest.mark.parametrize(
    ("change", "method"),
    [
        ({"content-type": "text/plain"}, "POST"),  # content types that a form can send
        ({"content-type": "application/x-www-form-urlencoded"}, "POST"),
        ({"content-type": ""}, "POST"),
        ({"origin": "http://evil.example"}, "POST"),
        ({"origin": "null"}, "POST"),
        ({"origin": ""}, "POST"),
        ({"origin": "http://127.0.0.1:9090"}, "POST"),
        ({"sec-fetch-site": "cross-site"}, "POST"),
        ({}, "PUT"),
        ({}, "DELETE"),
    ],
)
def test_a_change_from_elsewhere_is_rejected(change: dict[str, str], method: str) -> None:
    assert DOOR.find_objection(ask({**WRITE, **change}, method=method)) != ""


@pytest.mark.parametrize("name", ["sec-fetch-site", "origin", "content-type"])
@pytest.mark.parametrize("place", [0, -1])
def test_repeated_headers_must_all_be_allowed(name: str, place: int) -> None:
    headers = list(WRITE.items())
    others = {"sec-fetch-site": "cross-site", "origin": "http://evil.example", "content-type": "text/plain"}
    headers.insert(place if place == 0 else len(headers), (name, others[name]))
    assert DOOR.find_objection(Request("POST", "/console/act", "", tuple(headers), b"{}", "127.0.0.1")) != ""


def test_an_open_console_is_read_only() -> None:
    there = {**WRITE, "host": "models.example:8080", "origin": "http://models.example:8080"}
    assert OPEN.find_objection(ask(there, client="192.0.2.7")) == ""
    assert "read-only" in OPEN.find_objection(ask(there, client="192.0.2.7", method="POST"))


def test_each_run_has_its_own_secrets() -> None:
    first, second = Door(), Door()
    assert len({first.token, first.session, second.token, second.session}) == 4
    assert first.token not in repr(first)
    assert first.session not in repr(first)


@pytest.mark.parametrize(
    "others",
    [
        "theme=dark; {own}",
        'bad[name]={{"a": 1}}; {own}; more',
        "{name}=of-another; {own}",
        "{own}; {name}=of-another",
        " {own} ",
    ],
)
def test_cookies_of_other_programs_on_this_machine_are_ignored(others: str) -> None:
    cookie = others.format(own=f"{DOOR.cookie}=the-session", name=DOOR.cookie)
    assert DOOR.find_objection(ask({**BROWSER, "cookie": cookie})) == ""


def test_two_servers_on_one_machine_have_two_cookies() -> None:
    assert Door().cookie != Door().cookie


@pytest.mark.parametrize(
    "headers",
    [
        {
            "upgrade": "websocket",
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "websocket",
        },
        {"accept": "text/event-stream", "sec-fetch-site": "same-site"},  # EventSource at http://127.0.0.1:3000
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_other_origins_cannot_access_anything_even_with_the_cookie(headers: dict[str, str]) -> None:
    assert "another site" in DOOR.find_objection(ask({**BROWSER, **headers}))
    assert "another site" in DOOR.find_objection(ask({**BROWSER, **headers}), is_page=True)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},  # a form with enctype="text/plain"
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {"origin": "null"},  # from a sandboxed frame, or after a redirect
        {"origin": "http://127.0.0.1:3000"},
        {"origin": ""},
        {"origin": "http://evil.example#127.0.0.1:8080"},
    ],
)
def test_no_form_and_no_other_origin_can_change_anything(headers: dict[str, str]) -> None:
    assert DOOR.find_objection(ask({**WRITE, **headers}, method="POST"))
