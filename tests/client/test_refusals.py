"""What API Gateway's own refusals mean."""

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
def test_a_refusal_of_api_gateway_has_a_remedy(kind: str, is_listed: bool, hint: str) -> None:
    assert find_hint({"x-amzn-errortype": kind}, is_listed=is_listed) == hint


def test_a_models_error_has_none() -> None:
    assert find_hint({"content-type": "application/json"}, is_listed=True) == ""
