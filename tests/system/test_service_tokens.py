"""How commands find the services of the project's own servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.system.service_tokens import announced_services, find_services, find_token, read_tokens


def test_a_server_is_found_while_it_runs_and_its_token_is_private(tmp_path: Path) -> None:
    folder = tmp_path / ".turnout"
    with announced_services(folder, "0.0.0.0", 8080, "TOKEN"), announced_services(folder, "127.0.0.1", 8081, ""):
        assert find_token(tmp_path, "http://127.0.0.1:8080") == "TOKEN"
        assert find_token(tmp_path, "http://localhost:8080/") == "TOKEN"
        assert find_token(tmp_path, "http://127.0.0.1:8081") == ""
        assert find_services(tmp_path, "http://127.0.0.1:8081") is not None
        assert read_tokens(tmp_path) == {8080: "TOKEN"}
        assert (folder / "services.json").stat().st_mode & 0o777 == 0o600
    assert find_services(tmp_path, "http://127.0.0.1:8080") is None
    assert read_tokens(tmp_path) == {}


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:8080", "http://evil.example:8080", "http://127.0.0.1:9", "", "nonsense"]
)
def test_no_other_address_belongs_to_the_project(tmp_path: Path, url: str) -> None:
    with announced_services(tmp_path / ".turnout", "0.0.0.0", 8080, "TOKEN"):
        assert find_services(tmp_path, url) is None


def test_a_server_that_was_killed_is_not_found(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / ".turnout").mkdir()
    fields = {"host": "127.0.0.1", "token": "TOKEN", "pid": str(ended.pid)}
    (tmp_path / ".turnout" / "services.json").write_text(json.dumps({"8080": fields}))
    assert read_tokens(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[", "[]", '{"8080": 1}', '{"8080": {}}', '{"8080": {"pid": "x"}}'])
def test_a_damaged_file_names_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / ".turnout").mkdir()
    (tmp_path / ".turnout" / "services.json").write_text(text)
    assert find_services(tmp_path, "http://127.0.0.1:8080") is None
    with announced_services(tmp_path / ".turnout", "127.0.0.1", 8080, ""):
        assert find_services(tmp_path, "http://127.0.0.1:8080") is not None


def test_a_project_deleted_while_its_server_ran_stays_deleted(tmp_path: Path) -> None:
    project = tmp_path / "project"
    with announced_services(project / ".turnout", "127.0.0.1", 8080, "t"):
        assert find_token(project, "http://127.0.0.1:8080") == "t"
        shutil.rmtree(project)
    assert not project.exists()
