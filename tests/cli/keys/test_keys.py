from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.__main__ import main
from turnout.system.service_tokens import announced_services


@pytest.fixture
def keyed(project: Path) -> Path:
    path = project / "models.yaml"
    path.write_text(f'{path.read_text()}  keyed: {{serve: {{"*": newest}}, auth: api_key}}\n')
    return project


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["keys", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_key_of_a_stage_is_printed_alone_and_the_server_accepts_it(
    keyed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = run(capsys, "keyed", "-m", str(keyed)).strip()
    assert json.loads((keyed / ".turnout" / "api_keys.json").read_text())["keyed"] == key
    assert key in run(capsys, "-m", str(keyed))
    assert json.loads(run(capsys, "-m", str(keyed), "--json"))["keyed"] == key


def test_a_stage_without_a_key_is_rejected(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown stage 'nowhere'" in run(capsys, "nowhere", "-m", str(keyed), code=2)
    assert "stage dev does not require an API key" in run(capsys, "dev", "-m", str(keyed), code=2)


def test_the_token_of_a_running_server_is_printed(keyed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "requires a token" in run(capsys, "--services", "-m", str(keyed), code=1)
    with announced_services(keyed / ".turnout", "127.0.0.1", 8080, "ONE"):
        assert run(capsys, "--services", "-m", str(keyed)) == "ONE\n"
        with announced_services(keyed / ".turnout", "127.0.0.1", 8081, "TWO"):
            assert "8080, 8081" in run(capsys, "--services", "-m", str(keyed), code=2)
            assert run(capsys, "--services", "--port", "8081", "-m", str(keyed)) == "TWO\n"
