"""The company's rules of a stack, on every resource: stacks that contain everything a project can have are compared by
resource type, so that a new resource cannot forget a rule.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.builders.deployed import deployed, packages_of, policy_of
from tests.builders.manifests import manifest, model, stage
from tests.builders.pulumi_program import ACCOUNT, REGION, Program, Resource
from tests.builders.table_project import LONG, OLD
from turnout.manifest.access import Cors, Domain
from turnout.manifest.parser import (
    AccountQuotas,
    Asynchronous,
    CallNode,
    Canary,
    Consumer,
    Jwt,
    Manifest,
    Routing,
    SequenceNode,
    Slo,
)
from turnout.packaging.build import BuiltPackage
from turnout.packaging.contents import StoredFile
from turnout.plan.values import Plan
from turnout.project.project import Project

SUBNETS, GROUPS = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], ["sg-0123456789abcdef0"]
LOG_KEY, ENVIRONMENT_KEY, BUCKET_KEY, THEIR_KEY, THEIR_POOL_KEY = (
    f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{number}1111111-2222-3333-4444-555555555555" for number in "abcde"
)
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
TOPICS = [f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}" for name in ("one", "two")]
RULES = {
    "subnet_ids": json.dumps(SUBNETS),
    "security_group_ids": GROUPS[0],
    "web_acl_arn": f"arn:aws:wafv2:{REGION}:{ACCOUNT}:regional/webacl/front/0a1b",
    "log_kms_key_arn": LOG_KEY,
    "environment_kms_key_arn": ENVIRONMENT_KEY,
    "bucket_kms_key_arn": BUCKET_KEY,
    "permissions_boundary_arn": BOUNDARY,
    "role_path": "/ml/models/",
    "tags": json.dumps({"team": "ml", "cost-center": 42}),
    "log_format": "text",
    "log_retention_days": "90",
    "access_log_class": "infrequent_access",
    "alarm_topic_arn": ",".join(TOPICS),
}
DOMAIN = Domain("ml.example.com", f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1", "Z0123456789ABCDEFGHIJ", "team")
STACKS: Mapping[str, tuple[bool, Mapping[str, str]]] = {
    "public": (True, {}),
    "private": (False, {"vpc_endpoint_ids": "vpce-0123456789abcdef0", "log_groups": "model"}),
}
"""Whether the stack has a domain and asynchronous requests, and further settings. Private APIs have no domain, and with
asynchronous requests every function uses the bucket's key.
"""

OUTSIDE_THE_VPC = {
    "guard-rail": "it calls AWS's control plane",
    "callers": "it calls nothing",
}
NOT_TAGGABLE = {
    "Account", "Alias", "ApiMapping", "BasePathMapping", "BucketCorsConfiguration", "BucketLifecycleConfiguration",
    "BucketPublicAccessBlock", "BucketServerSideEncryptionConfiguration", "Dashboard", "Deployment", "EventTarget",
    "FunctionEventInvokeConfig", "Invocation", "LayerVersion", "Permission", "ProvisionedConcurrencyConfig", "Record",
    "RolePolicy", "RolePolicyAttachment", "UsagePlanKey", "WebAclAssociation",
}  # fmt: skip
"""Types of resources on which AWS takes no tags."""


def everything(*, is_public: bool) -> Manifest:
    """Return a project with a table of choices, a pool, large models, a graph, a canary and consumers; if it is public,
    with a domain and `async`.
    """
    iris, digits, credit = model(), model("digits"), model("credit", ("v1",))
    first, second = iris.versions
    iris = replace(
        iris, versions=(replace(first, warm=replace(first.warm, provisioned=1), slo=Slo(p99_ms=100)), second)
    )
    pooled, theirs = (replace(version, pool="small") for version in digits.versions)
    theirs = replace(theirs, artifact="s3://theirs/digits/v2.onnx", sha256="e" * 64, kms_key_arn=THEIR_POOL_KEY)
    large = replace(credit.versions[0], artifact="s3://theirs/credit/v1.onnx", sha256="f" * 64, kms_key_arn=THEIR_KEY)
    flow = SequenceNode((CallNode("iris", "", {}, {"y": "x"}), CallNode(LONG[1], "")))
    models = (
        *(replace(model(f"d{number}", ("v1",)), is_direct=True) for number in range(88)),
        *(model(name, (OLD, "v2")) for name in LONG),
        iris,
        replace(digits, versions=(pooled, theirs)),
        replace(credit, versions=(large,)),
        replace(model("flow", ()), graph=flow),
        model("shadowed", routing=Routing(shadow_version="v2", shadow_percent=10)),
    )
    serve = {entry.name: entry.versions[0].name for entry in models if entry.versions}
    prod = stage(
        "prod",
        serve,
        auth="api_key",
        canary=Canary(10.0, {LONG[0]: "v2", "digits": "v2"}),
        consumers=(Consumer("web", ("iris",)),),
        cors=Cors(("https://a.example",)),
        asynchronous=Asynchronous() if is_public else None,
    )
    dev = stage("dev", serve, auth="jwt", jwt=Jwt("https://i.example", ("a",)))
    return replace(
        manifest(models, (prod, dev)), domain=DOMAIN if is_public else None, quotas=AccountQuotas(resources=600)
    )


def build(project: Project, plan: Plan) -> Sequence[BuiltPackage]:
    """Return large packages: `iris` v2 and `credit` v1 have their models in S3, and so has the pool."""

    def files_of(model_name: str, version: str) -> tuple[StoredFile, ...]:
        artifact = project.artifacts[model_name, version]
        return (StoredFile(artifact.path.name, artifact.path, 10, artifact.sha256),)

    stored = {"iris_v2": files_of("iris", "v2"), "credit_v1": files_of("credit", "v1")}
    pooled = {("digits", version): files_of("digits", version) for version in ("v1", "v2")}
    return [
        replace(entry, stored=stored.get(entry.name, ()), pooled=pooled if entry.name == "small_pool" else {})
        for entry in packages_of(plan, zip_bytes=60_000_000)
    ]


@pytest.fixture(scope="module", params=STACKS)
def ruled(request: pytest.FixtureRequest) -> Program:
    """A stack with everything, and with every rule set."""
    is_public, settings = STACKS[request.param]
    return deployed(everything(is_public=is_public), build=build, **RULES, **settings)


def inputs_of(program: Program, kind: str) -> dict[str, Mapping[str, Any]]:
    """Return the inputs of all resources of a kind; there is at least one."""
    inputs = {name: resource.inputs for name, resource in program.of(kind).items()}
    assert inputs, kind
    return inputs


def test_stacks_contain_everything(ruled: Program) -> None:
    functions = inputs_of(ruled, "lambda/function:Function")
    names = {"iris_v2", "credit_v1", "small_pool", "flow_router", "shadowed_router", "router", "callers", "guard-rail"}
    assert names <= functions.keys()
    variables = {name for made in functions.values() for name in (made.get("environment") or {}).get("variables", {})}
    assert {"TURNOUT_MODEL", "TURNOUT_MODELS", "TURNOUT_CHOICES"} <= variables
    is_public = "requests-worker" in functions
    mapped = [
        bool(ruled.of(kind))
        for kind in ("apigateway/basePathMapping:BasePathMapping", "apigatewayv2/apiMapping:ApiMapping")
    ]
    assert mapped == [bool(ruled.of("sqs/queue:Queue"))] * 2 == [is_public] * 2


def test_every_function_is_in_the_vpc_unless_it_needs_no_network_or_aws_itself(ruled: Program) -> None:
    outside = {name for name, made in inputs_of(ruled, "lambda/function:Function").items() if "vpcConfig" not in made}
    assert outside == OUTSIDE_THE_VPC.keys()
    networks = [
        made["vpcConfig"] for made in inputs_of(ruled, "lambda/function:Function").values() if "vpcConfig" in made
    ]
    assert all(network == {"subnetIds": SUBNETS, "securityGroupIds": GROUPS} for network in networks)


def test_every_function_has_the_log_format_and_one_of_the_log_groups(ruled: Program) -> None:
    groups = {made["name"] for made in inputs_of(ruled, "cloudwatch/logGroup:LogGroup").values()}
    for name, made in inputs_of(ruled, "lambda/function:Function").items():
        assert made["loggingConfig"]["logFormat"] == "Text", name
        assert made["loggingConfig"]["logGroup"] in groups, name


def test_every_function_with_variables_encrypts_them(ruled: Program) -> None:
    for name, made in inputs_of(ruled, "lambda/function:Function").items():
        # AWS does not store the key of a function without variables.
        assert made.get("kmsKeyArn") == (ENVIRONMENT_KEY if made.get("environment") else None), name


def test_every_log_group_has_the_key_and_the_retention_and_access_logs_the_class(ruled: Program) -> None:
    for name, made in inputs_of(ruled, "cloudwatch/logGroup:LogGroup").items():
        assert (made["kmsKeyId"], made["retentionInDays"]) == (LOG_KEY, 90), name
        # Alarms read metrics from the functions' logs, which needs the standard class.
        is_access_log = made["name"].startswith("/aws/apigateway/")
        assert made.get("logGroupClass") == ("INFREQUENT_ACCESS" if is_access_log else None), name


def test_every_bucket_is_private_and_encrypted_before_anything_is_written(ruled: Program) -> None:
    buckets = inputs_of(ruled, "s3/bucket:Bucket")
    kind = "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    encrypted = ruled.of(kind)
    by_default = {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": BUCKET_KEY}
    for entry in encrypted.values():
        assert entry.inputs["rules"] == [
            {"applyServerSideEncryptionByDefault": by_default, "bucketKeyEnabled": True}
        ], entry.name
    blocked = inputs_of(ruled, "s3/bucketPublicAccessBlock:BucketPublicAccessBlock").values()
    assert all([value for value in entry.values() if isinstance(value, bool)] == [True] * 4 for entry in blocked)
    ids = sorted(f"{name}-id" for name in buckets)
    assert sorted(entry.inputs["bucket"] for entry in encrypted.values()) == ids
    assert sorted(entry["bucket"] for entry in blocked) == ids
    urns = {entry.inputs["bucket"]: entry.urn for entry in encrypted.values()}
    for name, sent in ruled.of("s3/bucketObjectv2:BucketObjectv2").items():
        assert urns[sent.inputs["bucket"]] in sent.after, name


def test_every_queue_is_encrypted(ruled: Program) -> None:
    assert all(queue.inputs["sqsManagedSseEnabled"] for queue in ruled.of("sqs/queue:Queue").values())


def test_every_role_has_the_boundary_and_the_path(ruled: Program) -> None:
    for name, made in inputs_of(ruled, "iam/role:Role").items():
        assert (made["path"], made["permissionsBoundary"]) == ("/ml/models/", BOUNDARY), name


def test_every_alarm_goes_to_every_topic(ruled: Program) -> None:
    for name, made in inputs_of(ruled, "cloudwatch/metricAlarm:MetricAlarm").items():
        assert made["alarmActions"] == made["okActions"] == TOPICS, name


def test_every_resource_that_accepts_tags_has_them(ruled: Program) -> None:
    wanted = {"team": "ml", "cost-center": "42"}
    for resource in ruled.resources:
        kind = resource.type.rpartition(":")[2]
        if resource.type.startswith("aws:"):
            assert (resource.inputs.get("tags") == wanted) is (kind not in NOT_TAGGABLE), (kind, resource.name)


def test_every_stage_is_behind_the_web_acl(ruled: Program) -> None:
    protected = Counter(
        made["resourceArn"] for made in inputs_of(ruled, "wafv2/webAclAssociation:WebAclAssociation").values()
    )
    assert len(protected) == len(inputs_of(ruled, "apigateway/stage:Stage")) == sum(protected.values())


def allowed(policy: Resource, action: str) -> Iterator[str]:
    """Yield the resources on which a role's policy allows an action."""
    for statement in policy_of(policy):
        if statement["Effect"] == "Allow" and action in statement["Action"]:
            yield from statement["Resource"]


def key_of(arn: str) -> str:
    """Return the key that encrypts an object, or the objects of a pattern."""
    own = [f"arn:aws:s3:::turnout-test{kind}-{ACCOUNT}-{REGION}/*" for kind in ("", "-requests")]
    theirs = {"arn:aws:s3:::theirs/credit/*": THEIR_KEY, "arn:aws:s3:::theirs/digits/*": THEIR_POOL_KEY}
    keys = {**dict.fromkeys(own, BUCKET_KEY), **theirs}
    return next(key for pattern, key in keys.items() if fnmatch.fnmatchcase(arn, pattern))


def test_every_role_may_use_the_keys_of_what_it_reads_and_writes_and_no_other(ruled: Program) -> None:
    policies = ruled.of("iam/rolePolicy:RolePolicy")
    roles = {made["role"].rpartition("/")[2]: made for made in inputs_of(ruled, "lambda/function:Function").values()}
    for name, policy in policies.items():
        read = {key_of(arn) for arn in allowed(policy, "s3:GetObject")}
        written = {key_of(arn) for arn in allowed(policy, "s3:PutObject")}
        has_variables = "environment" in roles.get(str(policy.inputs["role"]), {})
        decrypted = set(allowed(policy, "kms:Decrypt"))
        # In one role all functions have variables, or none has: the general router may have none.
        assert decrypted - {ENVIRONMENT_KEY} == read | written, name
        assert set(allowed(policy, "kms:GenerateDataKey")) == written, name
        assert not has_variables or ENVIRONMENT_KEY in decrypted, name


def test_every_role_of_a_function_in_the_vpc_may_join_it(ruled: Program) -> None:
    inside = {
        made["role"].rpartition("/")[2]
        for made in inputs_of(ruled, "lambda/function:Function").values()
        if "vpcConfig" in made
    }
    joining = {
        str(policy.inputs["role"])
        for policy in ruled.of("iam/rolePolicy:RolePolicy").values()
        if "*" in allowed(policy, "ec2:CreateNetworkInterface")
    }
    assert joining == inside
