"""The result of `deploy()`: what a Pulumi program can go on with."""

from __future__ import annotations

from dataclasses import replace

import pulumi

from infra.deployed import DeployedProject
from infra.program import deploy
from tests.builders.deployed import KnownAccount, packages_of, project_of
from tests.builders.manifests import manifest, stage
from tests.builders.pulumi_program import run_program
from turnout.manifest.access import Consumer
from turnout.manifest.parser import Asynchronous, Domain


def test_program_continues_with_callers_a_domain_and_asynchronous_requests() -> None:
    consumers = (Consumer("shop", keys=("k1", "k2")),)
    of = replace(
        manifest(stages=(stage(auth="api_key", consumers=consumers, asynchronous=Asynchronous()), stage("app"))),
        domain=Domain("ml.example.com", "arn:aws:acm:eu-west-1:123456789012:certificate/1"),
    )
    project = project_of(of)
    seen: list[DeployedProject] = []

    def program() -> None:
        made: DeployedProject = deploy(
            of.path.parent,
            load=lambda _: project,
            build=lambda _project, plan: packages_of(plan),
            account=KnownAccount(),
        )
        seen.append(made)
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

    outputs = run_program(program).outputs
    assert sorted(outputs["keys"]) == ["k1", "k2"]
    assert len(set(outputs["keys"].values())) == 2
    assert outputs["authorizer"] == "turnout-test_callers"
    assert outputs["host"] == "ml.example.com"
    assert outputs["bucket"].startswith("turnout-test-requests")
    assert outputs["queues"] == ["turnout-test-requests", "turnout-test-requests-dead"]
    assert outputs["worker"] == "turnout-test-requests"
    (made,) = seen
    assert made.consumer_keys.keys() == {"prod"}
    assert made.addresses == {"prod": "https://ml.example.com/prod", "app": "https://ml.example.com/app"}


def test_what_a_project_lacks_is_none_in_the_result_of_deploy() -> None:
    of = manifest()
    seen: list[DeployedProject] = []
    project = project_of(of)

    def program() -> None:
        seen.append(
            deploy(
                of.path.parent,
                load=lambda _: project,
                build=lambda _project, plan: packages_of(plan),
                account=KnownAccount(),
            )
        )

    run_program(program)
    (made,) = seen
    assert (made.authorizer, made.domain, made.requests) == (None, None, None)
    assert (made.consumer_keys, made.addresses) == ({}, {})
