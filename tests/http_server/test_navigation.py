from __future__ import annotations

import pytest

from turnout.http_server.messages import Request
from turnout.http_server.navigation import accepts_html, lead_browser

HERE = {"host": "127.0.0.1:8080"}
TAB = {**HERE, "accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def ask(headers: dict[str, str], *, method: str = "GET") -> Request:
    return Request(method, "/", "", tuple(headers.items()), b"")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML; q=0.5", True),
        ("*/*", False),
        ("application/json", False),
        ("", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
        ("application/json, text/html;level=1;q=0.2", True),
    ],
)
def test_only_clients_that_accept_html_count_as_browsers(accepted: str, *, expected: bool) -> None:
    assert accepts_html(accepted) == expected


def test_only_a_tab_is_redirected() -> None:
    led = lead_browser(ask(TAB), "/console/")
    assert led is not None
    assert (led.status, dict(led.headers)["Location"]) == (302, "/console/")
    assert lead_browser(ask({**HERE, "accept": "text/html"}), "/docs") is not None  # no Sec-Fetch-*
    for other in (
        HERE,
        {**HERE, "accept": "*/*"},
        {**TAB, "sec-fetch-dest": "iframe"},
        {**TAB, "sec-fetch-mode": "cors"},
    ):
        assert lead_browser(ask(other), "/docs") is None
    assert lead_browser(ask(TAB, method="POST"), "/docs") is None
