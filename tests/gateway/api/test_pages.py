from __future__ import annotations

import asyncio

from turnout.gateway.api.pages import TRANSFER_HEADERS, answer_pages, answer_preflight, with_cors
from turnout.http_server.messages import Request, Response
from turnout.protocol.aws.cors import EXPOSED, make_cors_variables

OWN, OTHER = "https://app.example", "https://evil.example"
VARIABLES = make_cors_variables((OWN, "https://b.example"), credentials=True)


def sent_from(origin: str, *more: tuple[str, str]) -> Request:
    return Request("GET", "/transfers/dev/answers/1", "", (("Origin", origin), *more), b"", "127.0.0.1")


def test_an_allowed_page_may_read_the_response_with_credentials() -> None:
    response = with_cors(sent_from(OWN), VARIABLES, Response(200, (("ETag", '"1"'),)), TRANSFER_HEADERS)
    assert dict(response.headers) == {
        "ETag": '"1"',
        "Access-Control-Allow-Origin": OWN,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": f"{EXPOSED}, Accept-Ranges, Content-Range, ETag",
        "Vary": "Origin",
    }


def test_headers_that_were_stored_for_another_page_are_replaced() -> None:
    stored = Response(200, (("access-control-allow-origin", "https://b.example"), ("X", "1")))
    headers = with_cors(sent_from(OWN), VARIABLES, stored).headers
    assert [value for name, value in headers if name.lower() == "access-control-allow-origin"] == [OWN]
    assert ("X", "1") in headers


def test_other_pages_and_closed_stages_get_no_permission() -> None:
    assert with_cors(sent_from(OTHER), VARIABLES, Response(200)).headers == (("Vary", "Origin"),)
    assert with_cors(sent_from(OWN), {}, Response(200)).headers == ()
    assert answer_preflight(sent_from(OTHER), VARIABLES, 60).status == 403


def test_preflight_allows_what_the_page_asks_for() -> None:
    asked = ("Access-Control-Request-Headers", "x-turnout-sha256")
    headers = dict(answer_preflight(sent_from(OWN, asked), VARIABLES, 60).headers)
    assert headers["Access-Control-Allow-Methods"] == "GET, HEAD, PUT"
    assert headers["Access-Control-Allow-Headers"] == "x-turnout-sha256"
    assert headers["Access-Control-Max-Age"] == "60"


def test_an_awaited_response_gets_the_same_headers() -> None:
    async def ask() -> Response:
        async def pending() -> Response:
            return Response(202)

        answer = answer_pages(sent_from(OWN), VARIABLES, pending())
        assert not isinstance(answer, Response)
        return await answer

    answered, expected = asyncio.run(ask()), with_cors(sent_from(OWN), VARIABLES, Response(202))
    assert (answered.status, answered.headers) == (202, expected.headers)
