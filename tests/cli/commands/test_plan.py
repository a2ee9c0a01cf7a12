from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.__main__ import main
from turnout.cli.commands.plan import amounts_of, bar_of, say_plan, summary_of, warm_text
from turnout.manifest.parser import Warm
from turnout.manifest.settings import Settings
from turnout.plan.values import Function, Note, Plan, Quota


def make_plan(*quotas: Quota, notes: tuple[Note, ...] = ()) -> Plan:
    return Plan("shop", "local", (), (), (), (), quotas, notes)


def test_the_plan_shows_stages_functions_routes_packages_and_quotas(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-m", str(project), "--stack", "eu"]) == 0
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines()]
    assert err == ""
    assert out.startswith("shop, stack eu: 3 functions, 24 routes in 2 APIs, 2 stages.\n")
    assert "Stage prod: API shop-eu_api_key; auth api_key; throttle 100/s, burst 200; canary 10%" in out
    assert ["echo", "v1", "v2"] in rows  # the variable, the baseline's value, the canary's value
    assert ["POST", "/models/echo/inference", "inference", "shop-eu_echo_${stageVariables.echo}", "29", "s"] in rows
    assert (
        "Open Inference Protocol: proxy, 18 of 300 resources per API. Alternatives: 26 with direct and 14 with" in out
    )
    assert out.count("/models/echo/v1/inference") == 1  # two APIs with the same routes
    assert ["Routes", "(12)", "of", "shop-eu_none", "and", "shop-eu_api_key"] in rows
    assert any(entry[:2] == ["shop-eu_echo_v1", "arm64"] for entry in rows)
    assert any(entry[:2] == ["stage", "variables"] and "/" in entry for entry in rows)


def test_the_plan_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", str(project), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [function["name"] for function in reported["functions"]] == [
        "shop-local_echo_v1",
        "shop-local_echo_v2",
        "shop-local_router",
    ]


def test_a_plan_over_its_budget_is_rejected_by_plan_and_validate(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = project / "models.yaml"
    text = manifest.read_text()
    manifest.write_text(f"budget: {{month: 5, million_calls: 4}}\n{text}")
    for command in ("plan", "validate"):
        assert main([command, "-m", str(project)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "models.yaml:1:10: budget.month: a month without calls costs $5.21, $5.00 allowed" in err
        assert "models.yaml:1:20: budget.million_calls: a million calls of echo v1 cost" in err
    manifest.write_text(f"budget: 5.21\n{text}")
    for command in ("plan", "validate"):
        assert main([command, "-m", str(project)]) == 0


def test_plan_compares_its_cost_with_the_deployed_cost(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = project / "outputs.json"
    outputs.write_text(json.dumps({"costs": {"month": 4.2, "million_calls": {"echo v1": 4.27, "gone v1": 9}}}))
    assert main(["plan", "-m", str(project), "--outputs", str(outputs)]) == 0
    out = capsys.readouterr().out
    compared = out[out.index("Cost compared with what is deployed") :].splitlines()
    assert compared[0] == "Cost compared with what is deployed"
    assert "A month without calls: $5.21, $1.01 more than deployed." in compared
    assert "A million calls of echo v2: $4.27, not deployed yet." in compared
    assert "A million calls of gone v1: removed, $9.00 deployed." in compared
    assert main(["plan", "-m", str(project), "--outputs", str(outputs), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["costs"]["compared_with_deployed"]
    assert rows[0] == {
        "name": "a month without calls",
        "deployed": 4.2,
        "planned": 5.2088,
        "dollars": 1.0088,
    }
    outputs.write_text(json.dumps({"functions": ["shop-local_echo_v1"]}))
    assert main(["plan", "-m", str(project), "--outputs", str(outputs)]) == 0
    assert "Unknown: an older version of Turnout deployed the stack." in capsys.readouterr().out


def test_the_plan_shows_its_cost(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = project / "models.yaml"
    manifest.write_text(f"prices: {{alarm_month: 1}}\n{manifest.read_text()}")
    assert main(["plan", "-m", str(project), "--call-ms", "100"]) == 0
    out = capsys.readouterr().out
    assert main(["plan", "-m", str(project), "--call-ms", "100", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    rows = [line.split() for line in out.splitlines()]
    total = costs["month_at_rest"]["dollars"]
    assert f"Cost on AWS, a month without calls: ${total:,.2f}\n" in out
    assert ["alarms", "22", "metrics", "1", "22.00"] in rows
    versions = [million_call for million_call in costs["million_calls"] if million_call["version"] == "v1"]
    assert ["echo", "v1", "direct", "3.50", "0.20", f"{versions[0]['running']:.2f}", "0.30"] in [
        entry[:7] for entry in rows
    ]
    for sentence in costs["assumptions"]:
        assert f"  {sentence}\n" in out
    assert "A call of a version runs 100 ms" in out
    assert "from models.yaml: alarm_month." in out


@pytest.mark.parametrize(
    ("prices", "sentence"),
    [
        ("{alarm: 1}", "unknown key"),
        ("{alarm_month: -1}", "0"),
        ("{alarm_month: cheap}", "number"),
        ("7", "mapping"),
    ],
)
def test_invalid_prices_are_rejected(
    prices: str, sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = project / "models.yaml"
    manifest.write_text(f"prices: {prices}\n{manifest.read_text()}")
    assert main(["plan", "-m", str(project)]) == 2
    err = capsys.readouterr().err
    assert "models.yaml:1:" in err
    assert sentence in err


def test_notes_end_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    say_plan(make_plan(notes=(Note("models.a", "comes later"), Note("", "all of it"))))
    assert capsys.readouterr().out.endswith("\nNotes\nmodels.a: comes later\nall of it\n")


def test_the_first_line_warns_of_the_fullest_quota() -> None:
    fine, near = Quota("stages", "api", 1, 10), Quota("resources", "api", 270, 300)
    over = Quota("timeout", "f", 900, 29, "s")
    assert summary_of(make_plan(fine)).endswith("Fullest quota: stages of api, 1 / 10 (10%).")
    assert summary_of(make_plan(fine, near)).endswith("Near its quota: resources of api, 270 / 300 (90%).")
    assert summary_of(make_plan(over, near)).endswith("Over its quota: timeout of f, 900 / 29 s (3103%).")


def test_a_quota_is_shown_where_it_is_fullest_and_wherever_it_is_nearly_full(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quotas = [Quota("name", subject, used, 10) for subject, used in (("a", 1), ("b", 9), ("c", 8), ("d", 2))]
    say_plan(make_plan(*quotas, *(Quota("stages", "e", 2, 10) for _ in range(2))))  # two APIs with equal entries
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows[rows.index(["QUOTA", "OF"]) + 1 :] == [["name", "b"], ["name", "c"], ["stages", "e"]]


@pytest.mark.parametrize(
    ("quota", "text", "share"),
    [
        (Quota("n", "s", 42, 300), "42 / 300", 0.14),
        (Quota("n", "s", 1234, 5000), "1,234 / 5,000", 0.2468),
        (Quota("n", "s", 1.5, 29, "s"), "1.5 / 29 s", 1.5 / 29),
        (Quota("n", "s", 1024 * 1024, 250 * 1024 * 1024, "bytes"), "1.0 MB / 250.0 MB", 0.004),
        (Quota("n", "s", 0, 0), "0 / 0", 0.0),
    ],
)
def test_a_quota_is_shown_in_its_unit(quota: Quota, text: str, share: float) -> None:
    assert amounts_of(quota) == text
    assert quota.share == pytest.approx(share)


@pytest.mark.parametrize(
    ("share", "filled"), [(0.0, 0), (0.001, 1), (0.05, 1), (0.5, 10), (0.99, 20), (1.0, 20), (7.0, 20)]
)
def test_any_use_fills_a_block_of_the_bar_and_the_bar_has_an_end(share: float, filled: int) -> None:
    assert bar_of(share) == "#" * filled + "." * (20 - filled)


@pytest.mark.parametrize(
    ("warm", "text"), [(Warm(), "-"), (Warm(provisioned=2), "provisioned 2"), (Warm(snap_start=True), "snap_start")]
)
def test_warm_is_shown_as_in_the_manifest(warm: Warm, text: str) -> None:
    assert warm_text(Function("f", "model", "m", "v1", "p", Settings(warm=warm))) == text


def test_cold_starts_follow_the_plan_on_request(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-m", str(project), "--cold-start"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines[lines.index("Cold starts, milliseconds on this machine") + 2 :]]
    assert [entry[:2] for entry in table] == [["echo", "v1"], ["echo", "v2"]]
    assert all(float(figure) > 0 for entry in table for figure in entry[2:])


def test_a_version_that_does_not_start_is_reported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "transform.py").write_text("def preprocess(inputs):\n    raise SystemExit('no')\n")
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("artifact:", "transform: transform.py, artifact:"))
    assert main(["plan", "-m", str(project), "--cold-start", "--json"]) == 1
    assert "does not start: " in capsys.readouterr().err


def test_command_prints_the_policy_for_the_settings_of_the_stack_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "Pulumi.prod.yaml").write_text(
        "config:\n  aws:region: eu-west-1\n  turnout:role_path: /ml/\n  turnout:subnet_ids:\n    - subnet-1\n"
    )
    command = ["plan", "-m", str(project), "--stack", "prod", "--deployer-policy"]
    assert main([*command, "--account", "123456789012", "--region", "eu-west-1"]) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    policies = printed if isinstance(printed, list) else [printed]
    rows = {entry["Sid"]: entry for policy in policies for entry in policy["Statement"]}
    assert "Networks" in rows
    assert rows["Roles"]["Resource"][0] == "arn:aws:iam::123456789012:role/ml/shop-prod_*"
    assert ("policies, because one is too small" in err) == (len(policies) > 1)


def test_plan_prices_asynchronous_requests(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = project / "models.yaml"
    manifest.write_text(manifest.read_text().replace("  prod:\n", "    async: {}\n  prod:\n"))
    assert main(["plan", "-m", str(project)]) == 0
    printed = capsys.readouterr().out
    assert "a million asynchronous requests besides their calls: $" in printed
    assert "With turnout:alarm_topic_arn, the alarms of asynchronous requests cost 0.20 a month more." in printed
    assert "queue's polls" in printed
    assert main(["plan", "-m", str(project), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [note for note in made["notes"] if "async" in note["path"]] == []
    items = {item["name"]: item["dollars"] for item in made["costs"]["million_asynchronous"]}
    assert items["objects written"] == 25
