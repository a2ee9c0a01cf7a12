"""The project's domain on AWS: which paths are mapped to which stages, and what stays when a stage moves to another
API.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pulumi
import pytest

from tests.builders.deployed import deployed
from tests.builders.manifests import manifest, stage
from tests.builders.pulumi_program import Program
from turnout.manifest.access import Cors, Domain
from turnout.manifest.parser import Stage

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
DOMAIN = Domain("ml.example.com", CERTIFICATE, "Z0123456789ABCDEFGHIJ")


def program(domain: Domain | None, *stages: Stage, config: str = "") -> Program:
    of = replace(manifest(stages=stages or (stage("dev"), stage(auth="api_key"))), domain=domain)
    return deployed(of, **({"domain": config} if config else {}))


def mappings(made: Program) -> dict[str, tuple[str, str]]:
    """Base path -> API and stage."""
    rows = made.of("apigateway/basePathMapping:BasePathMapping").values()
    return {entry.inputs.get("basePath", ""): (entry.inputs["restApi"], entry.inputs["stageName"]) for entry in rows}


def test_every_stage_and_the_default_stage_are_mapped_in_any_api() -> None:
    made = program(DOMAIN)
    assert mappings(made) == {
        "": ("turnout-test_none-id", "dev"),
        "dev": ("turnout-test_none-id", "dev"),
        "prod": ("turnout-test_api_key-id", "prod"),
    }
    name = made.one("apigateway/domainName:DomainName").inputs
    assert (name["domainName"], name["regionalCertificateArn"]) == ("ml.example.com", CERTIFICATE)
    assert (name["securityPolicy"], name["endpointConfiguration"]) == ("TLS_1_2", {"types": "REGIONAL"})
    record = made.one("route53/record:Record").inputs
    assert (record["name"], record["type"], record["zoneId"]) == ("ml.example.com", "A", DOMAIN.hosted_zone_id)
    assert made.outputs["domain"]["addresses"] == {
        "dev": "https://ml.example.com/dev",
        "prod": "https://ml.example.com/prod",
    }


@pytest.mark.parametrize(
    "changed",
    [stage(auth="iam"), stage(auth="api_key", cors=Cors(("*",))), stage(auth="none")],
    ids=lambda entry: entry.auth,
)
def test_address_of_a_stage_stays_when_its_api_changes(changed: Stage) -> None:
    before, after = program(DOMAIN), program(DOMAIN, stage("dev"), changed)
    for kind in ("apigateway/basePathMapping:BasePathMapping", "apigateway/domainName:DomainName"):
        assert [entry.urn for entry in before.of(kind).values()] == [entry.urn for entry in after.of(kind).values()]
    assert mappings(before)["prod"] != mappings(after)["prod"]
    assert before.outputs["domain"]["addresses"] == after.outputs["domain"]["addresses"]


def test_base_path_of_several_segments_uses_a_mapping_of_version_two() -> None:
    made = program(replace(DOMAIN, base_path="team/a"))
    rows = made.of("apigatewayv2/apiMapping:ApiMapping").values()
    assert {entry.inputs["apiMappingKey"]: entry.inputs["stage"] for entry in rows} == {
        "team/a": "dev",
        "team/a/dev": "dev",
        "team/a/prod": "prod",
    }
    assert made.outputs["domain"]["addresses"]["prod"] == "https://ml.example.com/team/a/prod"


def test_existing_domain_is_only_mapped() -> None:
    made = program(Domain("ml.example.com", create=False, base_path="a"))
    assert made.of("apigateway/domainName:DomainName") == {}
    assert made.of("route53/record:Record") == {}
    assert mappings(made)["a"] == ("turnout-test_none-id", "dev")


@pytest.mark.parametrize("disabled", [True, False])
def test_execute_api_is_disabled_on_request(disabled: bool) -> None:
    made = program(replace(DOMAIN, disable_execute_api=disabled))
    apis = made.of("apigateway/restApi:RestApi").values()
    assert [api.inputs.get("disableExecuteApiEndpoint", False) for api in apis] == [disabled, disabled]


def test_configuration_of_the_stack_overrides_keys_of_the_manifest() -> None:
    config = json.dumps({"name": "test.example.com", "tls_policy": "TLS_1_0"})
    name = program(DOMAIN, config=config).one("apigateway/domainName:DomainName").inputs
    assert (name["domainName"], name["regionalCertificateArn"], name["securityPolicy"]) == (
        "test.example.com",
        CERTIFICATE,
        "TLS_1_0",
    )
    alone = json.dumps({"name": "x.example.com", "certificate_arn": CERTIFICATE})
    assert "x.example.com" in str(program(None, config=alone).outputs["domain"])


@pytest.mark.parametrize(
    ("domain", "config", "message"),
    [
        (Domain("ml.example.com"), "", "domain.certificate_arn is missing"),
        (DOMAIN, '{"nmae": "x.example.com"}', "unknown key `nmae`"),
        (DOMAIN, '{"name": "https://x.example.com"}', "turnout:domain: name: must be a host name"),
        (DOMAIN, '["x"]', "turnout:domain: must be a mapping"),
        (None, '{"base_path": "a"}', "`name` is missing"),
    ],
)
def test_invalid_domain_is_rejected_before_anything_is_made(domain: Domain | None, config: str, message: str) -> None:
    with pytest.raises(pulumi.RunError, match=message):
        program(domain, config=config)


def test_private_apis_have_no_domain() -> None:
    of = replace(manifest(stages=(stage("dev"),)), domain=DOMAIN)
    with pytest.raises(pulumi.RunError, match="cannot lead to private APIs"):
        deployed(of, vpc_endpoint_ids=json.dumps(["vpce-0123456789abcdef0"]))


def test_stack_without_a_domain_has_none() -> None:
    made = program(None)
    assert mappings(made) == {}
    assert "domain" not in made.outputs
