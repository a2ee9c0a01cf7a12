from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from turnout.cli.__main__ import main
from turnout.gateway.editions.consumer_keys import read_consumer_keys
from turnout.manifest.parser import parse_manifest
from turnout.protocol.aws.callers import digest_key


@pytest.fixture
def keyed(project: Path) -> Path:
    path = project / "models.yaml"
    stage = '  keyed: {serve: {"*": newest}, auth: api_key, consumers: {app: {}, other: {keys: [a, b]}}}  # callers\n'
    path.write_text(path.read_text() + stage)
    return project


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["keys", *arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def keys_of(project: Path, consumer: str) -> tuple[str, ...]:
    path = project / "models.yaml"
    stages = parse_manifest(path.read_bytes(), path=path, source="models.yaml").stages
    return next(entry.keys for stage in stages for entry in stage.consumers if entry.name == consumer)


def test_key_is_printed_once_and_only_its_digest_is_stored(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, said = run(capsys, "issue", "keyed", "app", "-m", str(keyed))
    key = key.strip()
    assert len(key) == 40
    assert "It is not shown again." in said
    file = keyed / ".turnout" / "consumer_keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in file.read_text()
    assert read_consumer_keys(file.parent)["keyed", "app", "k1"].digest == digest_key(key)
    assert "turnout keys rotate keyed app" in run(capsys, "issue", "keyed", "app", "-m", str(keyed), code=2)[1]
    listed, _ = run(capsys, "list", "-m", str(keyed), "--json")
    assert key not in listed
    assert [(entry["consumer"], entry["key"], bool(entry["made"])) for entry in json.loads(listed)] == [
        ("app", "k1", True),
        ("other", "a", False),
        ("other", "b", False),
    ]


def test_rotation_keeps_the_old_key_until_it_is_retired(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = run(capsys, "issue", "keyed", "app", "-m", str(keyed))[0].strip()
    new = run(capsys, "rotate", "keyed", "app", "-m", str(keyed))[0].strip()
    assert old != new
    assert keys_of(keyed, "app") == ("k1", "k2")
    assert "# callers" in (keyed / "models.yaml").read_text()
    digests = {name[2]: consumer_key.digest for name, consumer_key in read_consumer_keys(keyed / ".turnout").items()}
    assert digests == {"k1": digest_key(old), "k2": digest_key(new)}
    assert "already has 2 keys" in run(capsys, "rotate", "keyed", "app", "-m", str(keyed), code=2)[1]
    run(capsys, "retire", "keyed", "app", "-m", str(keyed))
    assert keys_of(keyed, "app") == ("k2",)
    assert [name[2] for name in read_consumer_keys(keyed / ".turnout")] == ["k2"]
    assert "is the only key of app" in run(capsys, "retire", "keyed", "app", "-m", str(keyed), code=2)[1]
    run(capsys, "rotate", "keyed", "app", "-m", str(keyed))
    assert keys_of(keyed, "app") == ("k2", "k3")


def test_unknown_names_are_rejected(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (keyed / "models.yaml").read_text()
    for arguments, message in (
        (("rotate", "nowhere", "app"), "unknown stage 'nowhere'"),
        (("rotate", "keyed", "ap"), "unknown consumer of keyed 'ap'"),
        (("rotate", "dev", "app"), "stage dev has no consumers"),
        (("retire", "keyed", "other", "--key", "c"), "unknown key of other 'c'"),
        (("issue", "keyed", "other", "--key", "c"), "unknown key of other 'c'"),
        (("list", "nowhere"), "unknown stage 'nowhere'"),
    ):
        assert message in run(capsys, *arguments, "-m", str(keyed), code=2)[1]
    assert (keyed / "models.yaml").read_text() == before


def test_a_broken_key_file_is_reported_with_its_remedy(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (keyed / ".turnout").mkdir(exist_ok=True)
    (keyed / ".turnout" / "consumer_keys.json").write_text("{")
    said = run(capsys, "issue", "keyed", "app", "-m", str(keyed), code=2)[1]
    assert "consumer_keys.json" in said
    assert "Delete it" in said


def test_the_key_of_a_stage_is_still_printed_by_stage_name_alone(
    keyed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, _ = run(capsys, "keyed", "-m", str(keyed))
    assert short == run(capsys, "show", "keyed", "-m", str(keyed))[0]
