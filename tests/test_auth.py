from __future__ import annotations

import pytest

from turnout.auth import AUTH_TYPES, find_auth_type


def test_known_name_is_its_row() -> None:
    assert find_auth_type("api_key") is AUTH_TYPES["api_key"]


@pytest.mark.parametrize("name", ["", "API_KEY", "oauth", "none "])
def test_unknown_name_lists_the_usable_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`; known are `none`, `api_key`, `iam`$"):
        find_auth_type(name)


def test_jwt_is_refused_until_the_manifest_has_its_keys() -> None:
    with pytest.raises(ValueError, match=r"issuer and an audience.*use one of `none`, `api_key`, `iam`$"):
        find_auth_type("jwt")


@pytest.mark.parametrize(("name", "security"), [("none", []), ("api_key", [{"api_key": []}]), ("iam", [{"iam": []}])])
def test_security_names_the_scheme(name: str, security: list[dict[str, list[str]]]) -> None:
    assert AUTH_TYPES[name].security == security
