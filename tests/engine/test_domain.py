"""The project's domain while `platform` changes, which is part of every name on AWS: its address stays."""

from __future__ import annotations

import boto3

from tests.engine.life import LEAVES_LOOPS, Life, functions, touched

pytestmark = LEAVES_LOOPS

NAME = "ml.example.com"
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/1"


def test_another_platform_keeps_the_domain_and_its_record_and_moves_the_mappings(life: Life) -> None:
    life.project.tree["domain"] = {"name": NAME, "certificate_arn": CERTIFICATE, "hosted_zone_id": "Z1"}
    life.up()
    domains, addresses = life.world.aws.domains, life.result.outputs["domain"].value
    records, old_api = dict(domains.records), life.stage.api
    assert domains.paths == {(NAME, path): (old_api, "prod") for path in ("", "prod")}

    life.project.tree["platform"] = "shop"
    done = touched(life.up())

    assert not [entry for entry in done if entry[1] in {"DomainName", "Record"}]
    assert {entry for entry in done if entry[1] == "BasePathMapping"} == {
        ("update", "BasePathMapping", "domain"),
        ("update", "BasePathMapping", "domain-prod"),
    }
    assert (domains.names, domains.records) == ({NAME}, records)
    assert life.result.outputs["domain"].value == addresses
    assert life.stage.api != old_api
    assert domains.paths == {(NAME, path): (life.stage.api, "prod") for path in ("", "prod")}
    assert [api["name"] for api in boto3.client("apigateway").get_rest_apis()["items"]] == ["shop-test_api_key"]
    assert functions() == {"shop-test_iris_v1", "shop-test_digits_v1", "shop-test_router"}
    assert life.up() == []
