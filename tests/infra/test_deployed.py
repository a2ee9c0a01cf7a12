"""The result of `deploy()`: what a Pulumi program can go on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pulumi

from infra.deployed import DeployedProject
from infra.program import deploy
from tests.builders.deployed import KnownAccount, packages_of, project_of
from tests.builders.manifests import manifest, stage
from tests.builders.pulumi_program import REGION, run_program
from turnout.manifest.access import Consumer
from turnout.manifest.parser import Asynchronous, Domain, Jwt, Manifest


def deploy_and(of: Manifest, go_on: Callable[[DeployedProject], None]) -> tuple[DeployedProject, Mapping[str, Any]]:
    """Run a program that deploys a project and goes on with the result; return the result and the program's outputs."""
    project = project_of(of)
    seen = []

    def program() -> None:
        made = deploy(
            of.path.parent,
            load=lambda _: project,
            build=lambda _project, plan: packages_of(plan),
            account=KnownAccount(),
        )
        seen.append(made)
        go_on(made)

    outputs = run_program(program).outputs
    return seen[0], outputs


def test_program_continues_with_the_result_of_deploy() -> None:
    of = manifest(stages=(stage(auth="api_key"), stage("app", auth="jwt", jwt=Jwt("https://i.example", ("a",)))))

    def go_on(made: DeployedProject) -> None:
        pulumi.export("url", made.endpoints["prod"])
        pulumi.export("key", made.api_keys["prod"])
        pulumi.export("arn", made.functions["turnout-test_iris_v1"].arn)
        pulumi.export("live", made.aliases["turnout-test_iris_v2"].name)
        pulumi.export("api", made.rest_apis["app"].id)
        pulumi.export("stage", made.stages["app"].stage_name)
        pulumi.export("role", made.roles["integration"].name)
        pulumi.export("dashboard_of", made.dashboard.dashboard_name)
        pulumi.export("region_of", made.place.region)

    _, outputs = deploy_and(of, go_on)
    assert outputs["url"] == "https://prod.example"
    assert outputs["key"] == "secret-turnout-test_api_key_prod"
    assert outputs["arn"].endswith("Function/turnout-test_iris_v1")
    assert (outputs["live"], outputs["api"], outputs["stage"]) == ("live", "turnout-test_jwt_app-id", "app")
    assert (outputs["role"], outputs["dashboard_of"]) == ("turnout-test_integration", "turnout-test")
    assert outputs["region_of"] == REGION


def test_program_continues_with_callers_a_domain_and_asynchronous_requests() -> None:
    consumers = (Consumer("shop", keys=("k1", "k2")),)
    of = replace(
        manifest(stages=(stage(auth="api_key", consumers=consumers, asynchronous=Asynchronous()), stage("app"))),
        domain=Domain("ml.example.com", "arn:aws:acm:eu-west-1:123456789012:certificate/1"),
    )

    def go_on(made: DeployedProject) -> None:
        assert made.authorizer is not None
        assert made.domain is not None
        assert made.requests is not None
        pulumi.export(
            "keys", {name: pulumi.Output.unsecret(key) for name, key in made.consumer_keys["prod"]["shop"].items()}
        )
        pulumi.export("authorizer", made.authorizer.name)
        pulumi.export("host", made.domain.domain_name)
        pulumi.export("bucket", made.requests.bucket.bucket)
        pulumi.export("queues", [made.requests.queue.name, made.requests.dead_letters.name])
        pulumi.export("worker", made.requests.worker.name)

    made, outputs = deploy_and(of, go_on)
    assert sorted(outputs["keys"]) == ["k1", "k2"]
    assert len(set(outputs["keys"].values())) == 2
    assert outputs["authorizer"] == "turnout-test_callers"
    assert outputs["host"] == "ml.example.com"
    assert outputs["bucket"].startswith("turnout-test-requests")
    assert outputs["queues"] == ["turnout-test-requests", "turnout-test-requests-dead"]
    assert outputs["worker"] == "turnout-test-requests"
    assert made.consumer_keys.keys() == {"prod"}
    assert made.addresses == {"prod": "https://ml.example.com/prod", "app": "https://ml.example.com/app"}


def test_what_a_project_lacks_is_none_in_the_result_of_deploy() -> None:
    made, _ = deploy_and(manifest(), lambda _: None)
    assert (made.authorizer, made.domain, made.requests) == (None, None, None)
    assert (made.consumer_keys, made.addresses) == ({}, {})
