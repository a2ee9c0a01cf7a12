"""Mock integrations that this gateway answers, and those that it rejects."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from turnout.gateway.rules.mock import parse_mock

GOOD: dict[str, Any] = {
    "type": "mock",
    "requestTemplates": {"application/json": '{"statusCode": 204}'},
    "responses": {"default": {"statusCode": "204", "responseParameters": {"method.response.header.Vary": "'Origin'"}}},
}


def test_mock_answers_with_its_headers() -> None:
    assert parse_mock(GOOD).answer("https://a.example") == (
        204,
        (("Content-Type", "application/json"), ("Vary", "Origin")),
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("responses",), {}, "one response"),
        (("responses", "2\\d\\d"), {"statusCode": "200"}, "one response"),
        (("responses", "default", "statusCode"), "abc", "must be 200-599"),
        (("responses", "default", "statusCode"), "200", "ask for the status"),
        (("requestTemplates", "application/json"), "{", "ask for the status"),
        (("responses", "default", "responseParameters", "method.response.header.X"), "context.stage", "a constant"),
        (("responses", "default", "responseParameters", "integration.response.X"), "'x'", "a constant"),
        (("responses", "default", "responseTemplates"), {"application/json": "#set($x = 1)"}, "not supported"),
    ],
)
def test_unsupported_mock_is_rejected(path: tuple[str, ...], value: Any, message: str) -> None:
    integration = copy.deepcopy(GOOD)
    place = integration
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        parse_mock(integration)
