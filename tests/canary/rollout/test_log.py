"""rollouts.jsonl: one line for each rollout; started rollouts are distinguished from completed ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.canary.rollout.log import Rollout, RolloutLog, RolloutLogError

STARTED = Rollout(
    time="2026-11-23T02:10:00Z",
    who="ana\u2028",
    stage="prod",
    action="start",
    before={"iris": "v1"},
    after={"iris": "v2"},
    percent=10.0,
    digests={"iris": {"v1": "0" * 12, "v2": "1" * 12}},
    manifest=("a" * 64, "b" * 64),
    diff="-  old\n+  new",
    change={"variables": {}, "canary": None, "promotes": False},
)


def test_a_missing_file_has_no_rollouts(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    assert (log.read(), log.unfinished()) == ((), None)


def test_a_rollout_is_one_line_when_started_and_when_done(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    log.begin(STARTED)
    assert log.unfinished() == STARTED
    log.finish(STARTED)
    assert log.unfinished() is None
    (line,) = (tmp_path / "rollouts.jsonl").read_bytes().splitlines()
    assert json.loads(line) == {
        "time": "2026-11-23T02:10:00Z",
        "who": "ana\u2028",
        "stage": "prod",
        "action": "start",
        "from": {"iris": "v1"},
        "to": {"iris": "v2"},
        "percent": 10.0,
        "verdict": "",
        "digests": {"iris": {"v1": "0" * 12, "v2": "1" * 12}},
        "manifest": ["a" * 64, "b" * 64],
        "diff": "-  old\n+  new",
        "done": True,
    }


def test_earlier_lines_stay_unchanged(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    log.begin(STARTED)
    log.finish(STARTED)
    before = log.path.read_bytes()
    log.begin(STARTED)
    log.finish(STARTED)
    assert log.path.read_bytes().startswith(before)
    log.begin(STARTED)
    log.forget()
    assert len(log.read()) == 2
    assert len(log.read("dev")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts.jsonl"]


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "{}", "[]", '{"manifest": ["a"], "from": {}, "to": {}}'])
def test_an_unknown_line_is_reported_with_its_number(tmp_path: Path, line: str) -> None:
    log = RolloutLog(tmp_path)
    log.begin(STARTED)
    with log.path.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(RolloutLogError, match=r"rollouts\.jsonl:2: not a line that turnout wrote"):
        log.read()


def test_a_record_of_an_earlier_release_has_no_diff(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    log.begin(STARTED)
    fields = json.loads(log.path.read_text())
    del fields["diff"]
    log.path.write_text(json.dumps(fields) + "\n")
    assert log.read()[0].diff == ""
    log.path.write_text(json.dumps(fields | {"diff": 7}) + "\n")
    with pytest.raises(RolloutLogError, match="`diff` must be a string"):
        log.read()


def test_a_start_that_is_not_an_object_is_reported_with_its_line(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path)
    log.begin(STARTED)
    log.path.write_text(json.dumps(json.loads(log.path.read_text()) | {"mark": "text"}) + "\n")
    with pytest.raises(
        RolloutLogError, match=r"rollouts\.jsonl:1: not a line that turnout wrote: TypeError: `mark` must"
    ):
        log.read()


def test_invalid_utf_8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(RolloutLogError, match="is not UTF-8"):
        RolloutLog(tmp_path).read()
