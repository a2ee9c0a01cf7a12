"""API keys on this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from turnout.gateway.editions.api_keys import load_api_keys
from turnout.problems import ProblemsError


def test_keys_have_the_format_of_aws(tmp_path: Path) -> None:
    keys = load_api_keys(tmp_path / ".turnout" / "api_keys.json", ["prod", "staging"])
    assert list(keys) == ["prod", "staging"]
    assert all(len(key) == 40 and key.isascii() and key.isalnum() for key in keys.values())
    assert keys["prod"] != keys["staging"]


def test_keys_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    first = load_api_keys(path, ["prod"])
    second = load_api_keys(path, ["prod", "staging"])
    assert second["prod"] == first["prod"]
    assert load_api_keys(path, ["staging"]) == {"staging": second["staging"]}
    assert json.loads(path.read_text()) == second  # a stage that is not mentioned keeps its key


def test_a_key_chosen_by_the_user_is_used(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    path.write_text(json.dumps({"prod": "a-key-that-i-have-made-myself"}))
    assert load_api_keys(path, ["prod"]) == {"prod": "a-key-that-i-have-made-myself"}


def test_only_the_owner_may_read_the_file_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    load_api_keys(path, ["prod"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["api_keys.json"]


def test_no_file_is_made_if_no_stage_needs_a_key(tmp_path: Path) -> None:
    assert load_api_keys(tmp_path / ".turnout" / "api_keys.json", []) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "api_keys.json").mkdir()
    with pytest.raises(ProblemsError, match="cannot be read"):
        load_api_keys(tmp_path / "api_keys.json", ["prod"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("\ufeff", "is not JSON"),
        ("[]", "must be an object"),
        ('{"prod": 3}', "20-128"),
        ('{"prod": "short"}', "20-128"),
        ('{"prod": "' + "ä" * 40 + '"}', "20-128"),
        ('{"prod": "' + "a" * 129 + '"}', "20-128"),
    ],
)
def test_an_invalid_file_is_reported_and_not_changed(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "api_keys.json"
    path.write_text(text)
    with pytest.raises(ProblemsError, match=says):
        load_api_keys(path, ["prod"])
    assert path.read_text() == text


def test_keys_that_cannot_be_stored_are_used_for_one_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a-file").write_text("")
    keys = load_api_keys(tmp_path / "a-file" / "api_keys.json", ["prod"])
    assert len(keys["prod"]) == 40
    assert "this run only" in caplog.text


def _load(path: Path, stage: str) -> dict[str, str]:
    return load_api_keys(path, ["shared", stage])


def test_servers_started_at_once_use_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / ".turnout" / "api_keys.json"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        seen = pool.starmap(_load, [(path, f"stage-{number}") for number in range(12)], chunksize=1)
        pool.close()
        pool.join()
    assert len({keys["shared"] for keys in seen}) == 1
    kept = json.loads(path.read_text())
    assert len(kept) == 13
    assert all(keys.items() <= kept.items() for keys in seen)
    assert os.listdir(path.parent) == ["api_keys.json"]  # noqa: PTH208 - only names
