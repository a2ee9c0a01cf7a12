"""Tables of choices on AWS: objects before the stages, read by the routers that need them, deleted long after use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from infra.account import BotoAccount
from infra.naming import Place
from infra.program import check_unread
from infra.stack.choice_tables import KEPT_AFTER_USE, StoredTable, find_old_tables
from tests.builders.deployed import deployed, policy_of
from tests.builders.manifests import artifacts_of, manifest, model, stage
from tests.builders.pulumi_program import Program
from tests.builders.table_project import LONG, OLD
from turnout.manifest.parser import AccountQuotas, Canary, Manifest
from turnout.plan.planner import make_plan
from turnout.protocol.routing.choice_tables import make_table

BUCKET = "turnout-test-123456789012-eu-west-1"
TABLES = "s3/bucketObjectv2:BucketObjectv2"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def table_of(canary: Canary | None = None) -> Manifest:
    direct = tuple(replace(model(f"d{number}", ("v1",)), is_direct=True) for number in range(92))
    models = (*direct, *(model(name, (OLD, "v2")) for name in LONG))
    serve = {entry.name: entry.versions[0].name for entry in models}
    of = manifest(models, (stage("prod", serve, canary=canary),))
    return replace(of, quotas=AccountQuotas(resources=500))


@pytest.fixture(scope="module")
def program() -> Program:
    return deployed(table_of(Canary(10, {LONG[0]: "v2"})))


def test_table_is_written_before_the_stage_names_it_and_stays(program: Program) -> None:
    (prod,) = program.of("apigateway/stage:Stage").values()
    named = prod.inputs["variables"]["ChoiceTable"]
    moved = prod.inputs["canarySettings"]["stageVariableOverrides"]["ChoiceTable"]
    tables = {sent.inputs["key"]: sent.inputs["content"] for sent in program.of(TABLES).values()}
    assert tables.keys() == {f"choices/{named}.json", f"choices/{moved}.json"}
    for name in (named, moved):
        assert make_table("prod", json.loads(tables[f"choices/{name}.json"])) == (name, tables[f"choices/{name}.json"])
    after = {urn.rpartition("::")[2] for urn in prod.after}
    assert {f"choices/{named}", f"choices/{moved}"} <= after
    assert len(prod.inputs["variables"]) <= 100


def test_only_the_general_router_reads_tables(program: Program) -> None:
    functions = program.of("lambda/function:Function")
    variables = {name: (made.inputs.get("environment") or {}).get("variables", {}) for name, made in functions.items()}
    assert [name for name, known in variables.items() if "TURNOUT_CHOICES" in known] == ["router"]
    assert variables["router"] == {"TURNOUT_CHOICES": f"s3://{BUCKET}/choices"}
    reading = {
        name: statement["Resource"]
        for name, policy in program.of("iam/rolePolicy:RolePolicy").items()
        for statement in policy_of(policy)
        if any(action.startswith("s3:") for action in statement["Action"])
    }
    assert reading == {"router": [f"arn:aws:s3:::{BUCKET}/choices/*"]}


def test_release_canary_whose_baseline_cannot_read_a_table_is_refused() -> None:
    of = table_of(Canary(10, {}, release=True))
    plan = make_plan(of, artifacts_of(of), stack="test", enforce=False)
    outputs = {"stages": {"prod": {"variables": {"choice1": "a.v1"}, "canary": None}}}
    with pytest.raises(pulumi.RunError, match=r"stages\.prod\.canary: .* into a table, .* End the canary"):
        check_unread(plan, outputs)
    check_unread(plan, {})
    check_unread(plan, {"stages": {"prod": {"variables": {"ChoiceTable": "prod/0"}, "canary": None}}})


ages = st.lists(st.integers(0, 400), min_size=1, max_size=8)


@given(st.dictionaries(st.sampled_from(("dev", "prod")), ages, min_size=1), st.data())
def test_served_tables_and_those_replaced_lately_are_never_deleted(
    days: dict[str, list[int]], data: st.DataObject
) -> None:
    stored = [
        StoredTable(f"choices/{name}/{index}.json", NOW - timedelta(days=age))
        for name, of in days.items()
        for index, age in enumerate(of)
    ]
    served = {table.key for table in data.draw(st.lists(st.sampled_from(stored), max_size=3))}
    old = set(find_old_tables(stored, served, NOW))
    assert not old & served
    for table in stored:
        later = [
            other.written
            for other in stored
            if other.key.split("/")[1] == table.key.split("/")[1] and other.written > table.written
        ]
        if table.key in old:  # another table of its stage replaced it long ago
            assert NOW - table.written > KEPT_AFTER_USE
        elif table.key not in served and later:
            assert NOW - min(later) <= KEPT_AFTER_USE


def test_old_tables_are_deleted_from_the_bucket() -> None:
    place = Place("aws", "eu-west-1", "123456789012", "turnout-test")
    with mock_aws():
        client = boto3.client("s3", region_name="eu-west-1")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        keys = [f"choices/prod/{number}.json" for number in range(3)]
        for key in (*keys, "packages/a.zip"):
            client.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
        account = BotoAccount()
        assert account.prune_tables(place, [keys[2]]) == []  # all were replaced just now
        assert stored_keys(client) == [*keys, "packages/a.zip"]
        assert AgedAccount(timedelta(days=31)).prune_tables(place, [keys[0]]) == [keys[1]]
        assert stored_keys(client) == [keys[0], keys[2], "packages/a.zip"]


class AgedAccount(BotoAccount):
    """An account some time later."""

    def __init__(self, later: timedelta) -> None:
        self._later = later

    def now(self) -> datetime:
        return super().now() + self._later


def stored_keys(client: Any) -> Sequence[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
