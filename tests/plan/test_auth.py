from __future__ import annotations

import botocore.session
import pytest
from botocore.validate import ParamValidator

from turnout.manifest.parser import Jwt
from turnout.plan.auth import AUTH_TYPES, build_schemes, find_auth_type


def test_known_name_returns_its_entry() -> None:
    assert find_auth_type("api_key") is AUTH_TYPES["api_key"]


@pytest.mark.parametrize("name", ["", "API_KEY", "oauth", "none "])
def test_unknown_name_lists_the_usable_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`; known are `none`, `api_key`, `iam`, `jwt`$"):
        find_auth_type(name)


@pytest.mark.parametrize("name", AUTH_TYPES)
def test_scheme_has_the_name_that_operations_use(name: str) -> None:
    auth = find_auth_type(name)
    schemes = build_schemes(auth, None)
    assert [list(entry) for entry in auth.security] == [[scheme] for scheme in schemes]


def test_jwt_authorizer_names_issuer_and_audience_as_botocore_spells_them() -> None:
    scheme = build_schemes(AUTH_TYPES["jwt"], Jwt("https://login.example.com", ("one", "two")))["jwt"]
    authorizer = scheme["x-amazon-apigateway-authorizer"]
    assert authorizer["type"] == "jwt"
    assert authorizer["identitySource"] == "method.request.header.Authorization"
    issuers = [{"issuer": "https://login.example.com", "audiences": ["one", "two"]}]
    assert authorizer["jwtConfiguration"]["issuers"] == issuers
    model = botocore.session.get_session().get_service_model("apigateway")
    configuration = model.shape_for("JwtConfigurationInput")
    assert ParamValidator().validate(authorizer["jwtConfiguration"], configuration).generate_report() == ""
    assert authorizer["jwtConfiguration"]["defaultAlgorithms"] == model.shape_for("JwtSigningAlgorithm").enum


@pytest.mark.parametrize(("name", "security"), [("none", []), ("api_key", [{"api_key": []}]), ("iam", [{"iam": []}])])
def test_security_names_the_scheme(name: str, security: list[dict[str, list[str]]]) -> None:
    assert AUTH_TYPES[name].security == security
