from __future__ import annotations

import json
from pathlib import Path

from soak.result import Findings, Result, Settings, make_json, render_table

GOOD = Result("fuzz", 12_345, 6.25, "nothing")
BAD = Result("crashes", 10, 1.0, "something", ("a hang (2 times)", *(f"more {number}" for number in range(12))))


def test_table_has_a_row_for_each_run_and_its_broken_promises_below() -> None:
    lines = render_table([GOOD, BAD]).splitlines()
    assert lines[0].split() == ["RUN", "REQUESTS", "SECONDS", "HOLDS", "SEEN"]
    assert lines[1].split() == ["fuzz", "12,345", "6.2", "yes", "nothing"]
    assert lines[2].split() == ["crashes", "10", "1.0", "NO", "something"]
    assert lines[3] == "    broken: a hang (2 times)"
    assert lines[-1] == "    and 3 more"


def test_json_passes_only_if_every_run_does() -> None:
    assert make_json([GOOD], 7)["holds"] is True
    made = json.loads(json.dumps(make_json([GOOD, BAD], 7)))
    assert made["holds"] is False
    assert made["seed"] == 7
    assert [(run["run"], run["holds"]) for run in made["runs"]] == [("fuzz", True), ("crashes", False)]
    assert made["runs"][1]["broken"][0] == "a hang (2 times)"


def test_findings_count_each_kind_and_keep_its_first_examples() -> None:
    findings = Findings(most_of_a_kind=2)
    assert findings.lines() == ()
    for number in range(5):
        findings.add("a hang", f"request {number}")
    findings.add("a worker died")
    assert findings.lines() == ("a hang (5 times); e.g. request 0; e.g. request 1", "a worker died (1 times)")


def test_the_same_seed_gives_each_client_the_same_numbers() -> None:
    settings = Settings(1.0, 5, ("turnout",), Path())
    assert settings.random(1).random() == settings.random(1).random()
    assert settings.random(1).random() != settings.random(2).random()
    assert settings.random(1).random() != Settings(1.0, 6, ("turnout",), Path()).random(1).random()
