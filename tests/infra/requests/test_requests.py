"""Asynchronous requests on AWS: the resources of a stack, and their permissions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from infra.requests.asked import LONGEST_DAYS, Kept, longest_run_s, make_settings, plan_lifecycle
from tests.builders.deployed import deployed, may_invoke, policy_of
from tests.builders.manifests import artifacts_of, manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program
from turnout.gateway.requests.policies import make_policies
from turnout.manifest.parser import AccountQuotas, Asynchronous, Canary, Cors, Manifest, Routing
from turnout.plan.planner import make_plan
from turnout.plan.values import Plan
from turnout.protocol.aws_requests.settings import MOST_RUN_S, RequestSettings, StageRules

ASYNC = stage(asynchronous=Asynchronous(time_to_live_s=90_000, callback_hosts=("hooks.example.com",)))
BUCKET = f"arn:aws:s3:::turnout-test-requests-{ACCOUNT}-{REGION}"
CORS_RULES = "s3/bucketCorsConfiguration:BucketCorsConfiguration"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:turnout-test-requests"


@pytest.fixture(scope="module")
def program() -> Program:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alerts"
    return deployed(manifest((model(routing=Routing(fallback="v1")),), (ASYNC,)), alarm_topic_arn=topic)


def plan_of(of: Manifest) -> Plan:
    return make_plan(of, artifacts_of(of), stack="test")


def test_stack_without_async_has_no_such_resources() -> None:
    program = deployed(manifest())
    kinds = {resource.type for resource in program.resources}
    assert not [kind for kind in kinds if "sqs" in kind or "s3" in kind or "eventSource" in kind]
    assert "requests" not in program.outputs
    environment = program.of("lambda/function:Function")["iris_v1"].inputs["environment"]["variables"]
    assert environment == {"ORT_DISABLE_TELEMETRY": "1"}
    document = program.one("apigateway/restApi:RestApi").inputs["body"]
    assert "/requests/{id}" not in document


def test_bucket_is_private_encrypted_and_has_expiry_rules(program: Program) -> None:
    bucket = program.one("s3/bucket:Bucket")
    assert bucket.inputs["bucket"] == f"turnout-test-requests-{ACCOUNT}-{REGION}"
    block = program.one("s3/bucketPublicAccessBlock:BucketPublicAccessBlock").inputs
    assert [value for value in block.values() if isinstance(value, bool)] == [True] * 4
    (rule,) = program.one("s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration").inputs[
        "rules"
    ]
    assert rule == {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}
    rules = program.one("s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration").inputs["rules"]
    days = {rule["filter"]["prefix"]: rule["expiration"]["days"] for rule in rules if "expiration" in rule}
    assert days == {
        "requests/prod/": 3,
        "answers/prod/": 3,
        "bodies/prod/": 6,
        "uploads/prod/": 2,
        "requests/": 31,
        "answers/": 31,
        "bodies/": 31,
        "uploads/": 31,
    }
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert [rule["abortIncompleteMultipartUpload"] for rule in rules if "expiration" not in rule] == [
        {"daysAfterInitiation": 1}
    ]


def test_pages_of_stages_with_cors_may_use_the_bucket() -> None:
    stages = (
        stage(
            "prod", asynchronous=Asynchronous(), cors=Cors(("https://a.example", "http://localhost:3000"), max_age_s=60)
        ),
        stage("dev", asynchronous=Asynchronous(), cors=Cors(("https://a.example", "https://b.example"))),
        stage("test", cors=Cors(("*",))),  # accepts no asynchronous request
        stage("closed", asynchronous=Asynchronous()),
    )
    rule, fetching = deployed(manifest(stages=stages)).one(CORS_RULES).inputs["corsRules"]
    # After the redirect to S3, browsers send `Origin: null`.
    assert (fetching["allowedOrigins"], fetching["allowedMethods"]) == (["*"], ["GET", "HEAD"])
    assert rule["allowedOrigins"] == ["https://a.example", "http://localhost:3000", "https://b.example"]
    assert rule["allowedMethods"] == ["PUT"]
    assert rule["allowedHeaders"] == ["*"]
    assert rule["maxAgeSeconds"] == 60
    assert {"ETag", "x-amz-meta-x-turnout-version", "x-amz-meta-turnout-sha256"} <= set(rule["exposeHeaders"])


def test_every_origin_is_allowed_if_one_stage_allows_it() -> None:
    stages = tuple(
        stage(name, asynchronous=Asynchronous(), cors=Cors((origin,)))
        for name, origin in (("prod", "https://a.example"), ("dev", "*"))
    )
    rule, _ = deployed(manifest(stages=stages)).one(CORS_RULES).inputs["corsRules"]
    assert rule["allowedOrigins"] == ["*"]


def test_a_bucket_is_closed_to_pages_without_cors(program: Program) -> None:
    assert not [resource for resource in program.resources if "Cors" in resource.type]


@pytest.mark.parametrize("seconds", [60, 86_400, 86_401, 1_209_600])
def test_objects_are_kept_until_their_request_is_deleted(seconds: int) -> None:
    plan = plan_of(manifest(stages=(stage(asynchronous=Asynchronous(time_to_live_s=seconds)),)))
    kept: dict[str, Kept] = {rule.name: rule for rule in plan_lifecycle(plan)}
    # A body is written first, waits for the whole time to live, and is needed until the ended request is deleted.
    runs_s = 10 * (MOST_RUN_S + 60)
    assert kept["prod-body"].days * 86_400 >= 2 * seconds + runs_s
    assert kept["prod-state"].days * 86_400 > seconds
    assert kept["prod-answer"].days * 86_400 > seconds
    assert kept["prod-body"].days <= LONGEST_DAYS


def test_custom_key_encrypts_the_bucket_and_its_users_may_use_it() -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/one"
    program = deployed(manifest(stages=(ASYNC,)), bucket_kms_key_arn=key)
    (rule,) = program.one("s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration").inputs[
        "rules"
    ]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": key}
    for role in ("models", "router", "requests-worker"):
        statements = policy_of(program.of("iam/rolePolicy:RolePolicy")[role])
        assert {
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": [key],
        } in statements


def test_queue_is_encrypted_and_has_dead_letters(program: Program) -> None:
    queues = program.of("sqs/queue:Queue")
    queue, dead = queues["requests"].inputs, queues["requests-dead"].inputs
    assert (queue["name"], dead["name"]) == ("turnout-test-requests", "turnout-test-requests-dead")
    assert queue["sqsManagedSseEnabled"]
    assert dead["sqsManagedSseEnabled"]
    redrive = json.loads(queue["redrivePolicy"])
    assert redrive["deadLetterTargetArn"].endswith("turnout-test-requests-dead")
    assert redrive["maxReceiveCount"] == 20
    worker = program.of("lambda/function:Function")["requests-worker"].inputs
    assert queue["visibilityTimeoutSeconds"] >= 6 * worker["timeout"]
    assert queue["messageRetentionSeconds"] == 1_209_600


def test_worker_is_called_with_one_message_and_reports_failures(program: Program) -> None:
    mapping = program.one("lambda/eventSourceMapping:EventSourceMapping")
    assert mapping.inputs["batchSize"] == 1
    assert mapping.inputs["functionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping.inputs["scalingConfig"] == {"maximumConcurrency": 50}
    assert any("rolePolicy:RolePolicy::requests-worker" in urn for urn in mapping.after)
    worker = program.of("lambda/function:Function")["requests-worker"].inputs
    assert (worker["name"], worker["timeout"]) == ("turnout-test-requests", 900)
    assert worker["handler"] == "router_lambda.requests.entry.handler"
    assert worker["environment"]["variables"].keys() == {
        "TURNOUT_REQUESTS_BUCKET",
        "TURNOUT_REQUESTS_QUEUE",
        "TURNOUT_REQUESTS_DEAD_LETTERS",
    }


def test_every_function_accepts_requests_and_only_the_worker_gets_the_dead_letters(program: Program) -> None:
    for name in ("iris_v1", "iris_v2", "iris_router", "router"):
        function = program.of("lambda/function:Function")[name].inputs
        variables = {key for key in function["environment"]["variables"] if key.startswith("TURNOUT_")}
        assert variables == {"TURNOUT_REQUESTS_BUCKET", "TURNOUT_REQUESTS_QUEUE"}


def aliases_of(program: Program) -> dict[str, Any]:
    return {name: alias.inputs["functionVersion"] for name, alias in program.of("lambda/alias:Alias").items()}


def test_asynchronous_runs_have_their_own_aliases_of_the_same_versions(program: Program) -> None:
    functions = ("iris_v1", "iris_v2", "iris_router", "router")
    aliases = aliases_of(program)
    assert aliases.keys() == {f"{name}_{alias}" for name in functions for alias in ("live", "live_async")}
    assert all(aliases[f"{name}_live"] == aliases[f"{name}_live_async"] for name in functions)
    released = deployed(manifest(stages=(replace(ASYNC, canary=Canary(10.0, {"iris": "v2"}, release=True)),)))
    made = released.of("lambda/alias:Alias")
    assert {"iris_v1_next", "iris_v1_next_async"} <= made.keys()
    # Not ignored: it follows the alias `live`, which keeps its version during a release canary.
    assert made["iris_v1_live_async"].ignored == ()
    assert not [name for name in deployed(manifest()).of("lambda/alias:Alias") if name.endswith("_async")]


def test_routers_and_the_worker_may_call_these_aliases_and_api_gateway_may_not(program: Program) -> None:
    policies = program.of("iam/rolePolicy:RolePolicy")
    for alias in ("live", "next", "live_async", "next_async"):
        version = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:turnout-test_iris_v1:{alias}"
        router = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:turnout-test_iris_router:{alias}"
        assert may_invoke(policy_of(policies["iris_router"]), version)
        assert may_invoke(policy_of(policies["requests-worker"]), version)
        assert may_invoke(policy_of(policies["requests-worker"]), router)
        assert may_invoke(policy_of(policies["integration"]), version) is not alias.endswith("_async")
        assert not may_invoke(policy_of(policies["iris_router"]), router)


def actions_of(program: Program, role: str) -> dict[str, set[str]]:
    """Return action -> resources, for S3 and SQS."""
    allowed: dict[str, set[str]] = {}
    for statement in policy_of(program.of("iam/rolePolicy:RolePolicy")[role]):
        for action in statement["Action"]:
            if action.startswith(("s3:", "sqs:")):
                allowed.setdefault(action, set()).update(statement["Resource"])
    return allowed


def test_functions_have_only_the_necessary_permissions(program: Program) -> None:
    for role in ("models", "iris_router"):
        assert actions_of(program, role) == {
            "s3:GetObject": {f"{BUCKET}/settings.json", f"{BUCKET}/bodies/*", f"{BUCKET}/uploads/*"},
            "s3:PutObject": {f"{BUCKET}/{name}/*" for name in ("requests", "bodies", "answers", "uploads")},
            "s3:DeleteObject": {f"{BUCKET}/bodies/*"},
            "s3:ListMultipartUploadParts": {f"{BUCKET}/bodies/*"},
            "s3:ListBucket": {BUCKET},
            "sqs:SendMessage": {QUEUE},
        }
    general = actions_of(program, "router")
    assert general["s3:GetObject"] == {
        f"{BUCKET}/settings.json",
        *(f"{BUCKET}/{name}/*" for name in ("bodies", "uploads", "requests", "answers")),
    }
    worker = actions_of(program, "requests-worker")
    assert worker.pop("s3:GetObject") == {
        f"{BUCKET}/{name}" for name in ("settings.json", "secret", "requests/*", "answers/*")
    }
    assert worker.pop("s3:PutObject") == {f"{BUCKET}/{name}" for name in ("secret", "requests/*", "answers/*")}
    assert worker == {
        "s3:ListBucket": {BUCKET},
        "sqs:SendMessage": {QUEUE, f"{QUEUE}-dead"},
        **{
            f"sqs:{action}": {QUEUE}
            for action in ("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage")
        },
    }


def test_alarms_watch_the_age_and_the_dead_letters(program: Program) -> None:
    alarms = program.of("cloudwatch/metricAlarm:MetricAlarm")
    age, dead = alarms["requests-worker_age"].inputs, alarms["requests-worker_dead"].inputs
    assert (age["name"], dead["name"]) == ("turnout-test.requests_age", "turnout-test.requests_dead")
    assert (age["metricName"], age["dimensions"]) == (
        "ApproximateAgeOfOldestMessage",
        {"QueueName": "turnout-test-requests"},
    )
    assert age["threshold"] == 29 + 600
    assert (dead["metricName"], dead["threshold"]) == ("ApproximateNumberOfMessagesVisible", 0)
    assert dead["dimensions"] == {"QueueName": "turnout-test-requests-dead"}


def test_alarms_that_notify_nobody_are_not_made() -> None:
    def alarms(of: Manifest) -> set[str]:
        return set(deployed(of).of("cloudwatch/metricAlarm:MetricAlarm"))

    assert alarms(manifest(stages=(ASYNC,))) == alarms(manifest()), "at rest, `async` adds none"


def test_settings_contain_the_stages_rules_and_the_time_limits(program: Program) -> None:
    stored = program.one("s3/bucketObjectv2:BucketObjectv2").inputs
    assert stored["key"] == "settings.json"
    settings = RequestSettings.from_json(stored["content"].encode())
    assert settings.stages == {
        "prod": StageRules(90_000, 3, 1024, ("hooks.example.com",), allow_private_callbacks=False)
    }
    assert settings.timeouts_s["turnout-test_iris_v1"] == 15
    assert settings == RequestSettings.from_json(settings.to_json())


@pytest.mark.parametrize(("integration_s", "expected"), [(29, 29.0), (40, 40.0), (90, 50.0)])
def test_a_raised_timeout_applies_to_asynchronous_runs(integration_s: int, expected: float) -> None:
    iris = model()
    slow = replace(iris, versions=tuple(replace(version, timeout_s=50) for version in iris.versions))
    of = replace(manifest((slow,), (ASYNC,)), quotas=AccountQuotas(integration_timeout_s=integration_s))
    plan = plan_of(of)
    for timeouts in (make_settings(plan).timeouts_s, make_policies(plan).timeouts_s):
        assert {timeouts["turnout-test_iris_v1"], timeouts["turnout-test_iris_v2"]} == {expected}


def test_run_has_its_versions_own_time_limit() -> None:
    only = model()
    slow = replace(only.versions[0], timeout_s=900, asynchronous=True)
    capped = replace(only.versions[1], timeout_s=100)
    of = manifest((replace(only, versions=(slow, capped)),), (ASYNC,))
    timeouts = make_settings(plan_of(of)).timeouts_s
    assert (timeouts["turnout-test_iris_v1"], timeouts["turnout-test_iris_v2"]) == (900, 29)
    assert longest_run_s(plan_of(of)) == 900


def test_stages_depend_on_the_worker_and_settings_contain_only_async_stages() -> None:
    program = deployed(manifest(stages=(stage("dev"), ASYNC)))
    for entry in program.of("apigateway/stage:Stage").values():
        assert any("eventSourceMapping:EventSourceMapping::requests-worker" in urn for urn in entry.after)
    settings = json.loads(program.one("s3/bucketObjectv2:BucketObjectv2").inputs["content"])
    assert settings["stages"].keys() == {"prod"}
    assert {"/requests/{id}", "/requests/{id}/answer", "/uploads"} <= paths_of(program)


def paths_of(program: Program) -> set[str]:
    document: dict[str, Any] = json.loads(program.one("apigateway/restApi:RestApi").inputs["body"])
    return set(document["paths"])


def test_exports_name_the_bucket_and_the_queues(program: Program) -> None:
    assert program.outputs["requests"] == {
        "bucket": f"turnout-test-requests-{ACCOUNT}-{REGION}",
        "queue": "https://sqs.example/requests",
        "dead_letters": "https://sqs.example/requests-dead",
    }


@pytest.mark.parametrize(("characters", "fits"), [(31, True), (32, False)])
def test_name_of_the_bucket_has_63_characters_at_most(characters: int, fits: bool) -> None:
    of = manifest(stages=(ASYNC,), platform="p" * (characters - len("-test")))
    if fits:
        deployed(of)
        return
    with pytest.raises(pulumi.RunError, match="shorten `platform`"):
        deployed(of)
