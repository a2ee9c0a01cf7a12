"""Which alarms end a canary, and which of them are in ALARM."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from tests.builders.alarms import put_alarms
from tests.builders.manifests import artifacts_of, manifest, model, stage
from turnout.manifest.judgement import Judgement
from turnout.manifest.parser import Canary
from turnout.plan.guard_alarms import GuardAlarms, find_guard_alarms, find_ringing
from turnout.plan.planner import make_plan


def alarms_of(canary: Canary | None) -> GuardAlarms | None:
    names = [f"model-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    models = tuple(model(name) for name in ("iris", *names))
    of = manifest(models, (stage(serve=dict.fromkeys(("iris", *names), "v1"), canary=canary),))
    plan = make_plan(of, artifacts_of(of), stack="test", enforce=False)
    return find_guard_alarms(plan, canary.judgement if canary else Judgement(), plan.apis[0].stages[0])


NAMED = Judgement(alarms=("sales", "turnout-test_iris_v2_errors"))
SALES = Judgement(alarms=("sales",))
MANY = dict.fromkeys([f"model-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"], "v2")


@pytest.mark.parametrize(
    ("canary", "expected"),
    [
        (None, None),
        (Canary(10.0, {"iris": "v2"}), GuardAlarms(("turnout-test_iris_v2_errors",))),
        (Canary(10.0, {"iris": "v2"}, judgement=NAMED), GuardAlarms(("turnout-test_iris_v2_errors", "sales"))),
        (Canary(10.0, {"iris": "v2"}, judgement=Judgement(auto_rollback=False)), None),
        (Canary(10.0, {}, release=True, judgement=SALES), GuardAlarms(("sales",), "turnout-test_")),
        (Canary(10.0, MANY, judgement=SALES), GuardAlarms(("sales",), "turnout-test_")),
    ],
)  # fmt: skip
def test_named_alarms_are_added_to_those_of_the_moved_versions(
    canary: Canary | None, expected: GuardAlarms | None
) -> None:
    assert alarms_of(canary) == expected


def test_ringing_alarms_are_those_of_the_canary_that_are_in_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "test")
    with mock_aws():
        client = boto3.client("cloudwatch", region_name="eu-west-1")
        ringing = ("sales", "other", "turnout-test_iris_v2_errors", "turnout-test_iris_v2_p99")
        put_alarms(client, (*ringing, "turnout-test_x_errors"), ringing)
        client.set_alarm_state(AlarmName="turnout-test_x_errors", StateValue="OK", StateReason="test")
        assert find_ringing(client, GuardAlarms(("sales", "turnout-test_x_errors"))) == ("sales",)
        every = GuardAlarms(("sales",), "turnout-test_")
        assert find_ringing(client, every) == ("sales", "turnout-test_iris_v2_errors")
        assert find_ringing(client, GuardAlarms(("missing",))) == ()
