"""The meaning of API Gateway's own errors."""

from __future__ import annotations

import pytest

from turnout.client.refusals import HINTS, OLDER_SERVER, find_hint


@pytest.mark.parametrize(
    ("kind", "is_listed", "hint"),
    [
        ("MissingAuthenticationTokenException", True, OLDER_SERVER),
        ("MissingAuthenticationTokenException", False, HINTS["MissingAuthenticationTokenException"]),
        ("ForbiddenException", True, HINTS["ForbiddenException"]),
        ("ForbiddenException", False, HINTS["ForbiddenException"]),
        ("TooManyRequestsException", True, ""),
    ],
)
def test_an_error_of_api_gateway_has_a_remedy(kind: str, is_listed: bool, hint: str) -> None:
    assert find_hint({"x-amzn-errortype": kind}, is_listed=is_listed) == hint


def test_an_error_of_a_model_has_no_remedy() -> None:
    assert find_hint({"content-type": "application/json"}, is_listed=True) == ""
