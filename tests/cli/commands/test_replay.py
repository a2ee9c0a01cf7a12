"""`turnout serve --capture`, then `turnout replay`, with two versions that disagree about a known share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph, write_identity
from tests.builders.running_server import RunningServer, running_server
from turnout.cli.__main__ import main

MANIFEST = """\
defaults: {canary: {agreement: {percent: 100, floor: 0.9, rules: {y: {absolute: RULE}}}}}
models:
  level:
    versions: {v1: {artifact: identity.onnx}, v2: {artifact: absolute.onnx}}
  other:
    versions: {v1: {artifact: identity.onnx}}
stages:
  dev: {serve: {"*": newest, level: v1}}
  keyed: {serve: {"*": newest, level: v1}, auth: api_key}
"""

REQUESTS = 40
NEGATIVE = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    project = tmp_path_factory.mktemp("replay")
    write_identity(project / "identity.onnx", shape=("batch", 1))
    tensors = [value("x", "FP32", ["batch", 1])], [value("y", "FP32", ["batch", 1])]
    write_graph(project / "absolute.onnx", [helper.make_node("Abs", ["x"], ["y"])], *tensors)
    (project / "models.yaml").write_text(MANIFEST.replace("RULE", "0.001"))
    with running_server(project, "--workers", "2", "--capture", str(project / "capture.jsonl")) as running:
        yield running


@pytest.fixture(scope="module")
def capture(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the captured requests, because everything that a test sends is captured, too."""
    with server.client() as client:
        for number in range(REQUESTS):
            level = -1.0 if number < NEGATIVE else 1.0
            assert client.post("/models/level/inference", {"instances": [[level]]}).status == 200
        assert client.post("/models/other/inference", {"instances": [[1.0]]}).status == 200
        assert client.post("/models/level/inference", b"{bad").status == 400
    written = server.project / "capture.jsonl"
    server.await_log(lambda _: written.read_bytes().count(b"\n") >= REQUESTS + 2)
    lines = written.read_text().splitlines()
    assert len(lines) == REQUESTS + 2
    path = tmp_path_factory.mktemp("capture") / "capture.jsonl"
    path.write_text("\n".join(["START RequestId: 1", *lines]) + "\n")
    return path


@pytest.fixture
def base(server: RunningServer) -> list[str]:
    return ["--url", f"http://127.0.0.1:{server.port}", "--manifest", str(server.project)]


def test_both_versions_are_shown_side_by_side(
    base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(capture), "--against", "level/v2", "--against", "level/v1", *base]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["VERSION", "REQUESTS", "ERRORS", "P50", "MS", "P95", "MS", "P99", "MS"]
    assert lines[1].split()[:3] == ["level/v1", "41", "1"]
    assert lines[2].split()[:3] == ["level/v2", "41", "1"]
    assert lines[5].split() == ["predictions", "absolute", "75.00%", "2", "2", "-1.0000"]
    assert "75.00% agree: 30 of 40 requests.\nNot counted: 1 request " in out
    assert "line 2, predictions: -1 | 1" in out
    assert err == ""


def test_one_version_is_compared_with_the_one_that_answered(
    base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(capture), "--against", "level/v2", "--json", *base]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["compared"], body["agreed"]) == (40, 30)
    assert body["versions"][0]["version"] == "captured version"


@pytest.mark.parametrize(("floor", "code"), [("0.75", 0), ("0.76", 1)])
def test_a_floor_fails_the_command_below_it(
    floor: str, code: int, base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(capture), "--against", "level/v2", "--fail-under", floor, *base]) == code
    err = capsys.readouterr().err
    assert err == ("" if code == 0 else "turnout: 30 of 40 agree, at least 76% must.\n")


def test_a_floor_fails_if_nothing_was_compared(
    base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(capture), "--against", "level/v1", "--fail-under", "0", *base]) == 1
    out, err = capsys.readouterr()
    assert "No request to level could be compared." in out
    assert err == "turnout: 0 of 0 agree, at least 0% must.\n"


def test_a_report_is_written(
    server: RunningServer, base: list[str], capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    assert main(["replay", str(capture), "--against", "level/v2", "--report", str(report), *base]) == 0
    page = report.read_text()
    assert "75.00% agree" in page
    assert f"<dd>{base[1]}</dd>" in page
    assert "<dt>Stage</dt><dd>dev</dd>" in page  # the server's first stage, as its catalogue says
    assert sha256(capture.read_bytes()).hexdigest() in page
    for version in ("identity", "absolute"):
        digest = sha256((server.project / f"{version}.onnx").read_bytes()).hexdigest()[:12]
        assert page.count(f"<code>{digest}</code>") == 1
    assert "Passed" not in page
    assert f"Wrote {report}." in capsys.readouterr().err


def test_a_report_with_a_floor_shows_the_result(base: list[str], capture: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    command = ["replay", str(capture), "--against", "level/v2", "--report", str(report), "--stage", "keyed", *base]
    assert main([*command, "--fail-under", "0.75"]) == 0
    assert '<p class="answer">Passed</p>' in report.read_text()
    assert main([*command, "--fail-under", "0.7501"]) == 1
    page = report.read_text()
    assert '<p class="answer">Failed</p>' in page
    assert "at least 75.01% must agree" in page
    assert "<dt>Stage</dt><dd>keyed</dd>" in page


def test_json_names_the_place_of_the_replay(
    server: RunningServer, base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(capture), "--against", "level/v2", "--json", *base]) == 0
    body = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(body["time"]).tzinfo is not None
    assert (body["url"], body["stage"]) == (base[1], "dev")
    assert body["capture"] == {"file": capture.name, "sha256": sha256(capture.read_bytes()).hexdigest()}
    digests = [
        sha256((server.project / f"{name}.onnx").read_bytes()).hexdigest()[:12] for name in ("identity", "absolute")
    ]
    assert [side["digests"] for side in body["versions"]] == [{"v1": [digests[0]]}, {"v2": [digests[1]]}]


def test_an_unwritable_report_exits_with_2(
    base: list[str], capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "nowhere" / "report.html"
    assert main(["replay", str(capture), "--against", "level/v2", "--report", str(report), *base]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_server_older_than_models_yaml_is_reported(
    server: RunningServer, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(server.project, tmp_path / "newer")
    manifest = tmp_path / "newer" / "models.yaml"
    manifest.write_text(
        manifest.read_text().replace(
            "v2: {artifact: absolute.onnx}", "v2: {artifact: absolute.onnx}, v3: {artifact: absolute.onnx}"
        )
    )
    url = f"http://127.0.0.1:{server.port}"
    command = ["replay", str(capture), "--against", "level/v3", "--url", url, "--manifest", str(manifest)]
    assert main(command) == 1
    assert "the server runs an older models.yaml" in capsys.readouterr().err


def test_the_key_of_a_stage_is_found(base: list[str], capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(capture), "--against", "level/v2", "--stage", "keyed", *base]) == 0
    assert "75.00% agree" in capsys.readouterr().out


def test_without_a_manifest_datatypes_decide_the_comparison(
    server: RunningServer,
    capture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"http://127.0.0.1:{server.port}"
    assert main(["replay", str(capture), "--against", "level/v2", "--url", url]) == 0
    assert capsys.readouterr().out.splitlines()[5].split()[:2] == ["predictions", "relative"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--against", "level"], 2, "expected MODEL/VERSION, such as iris/v2"),
        (["--against", "level/"], 2, "expected MODEL/VERSION, such as iris/v2"),
        (["--against", "level/v1", "--against", "other/v1"], 2, "only versions of the same model can be compared"),
        (["--against", "level/v1", "--against", "level/v1"], 2, "was passed twice"),
        (["--against", "a/1", "--against", "a/2", "--against", "a/3"], 2, "pass one version, or two"),
        (
            ["--against", "none/v1"],
            2,
            "contains no captured requests to none.\n    It contains requests to level, other.",
        ),
        (["--against", "level/v9"], 1, "level/v9 cannot be called."),
        (["--against", "level/v2", "--stage", "keyed", "--api-key", "wrong"], 1, "HTTP 403 ForbiddenException"),
        (["--against", "level/v2", "--url", "http://127.0.0.1:1"], 1, "no server listens at http://127.0.0.1:1."),
        (["--against", "level/v2", "--url", "localhost"], 2, "is not an address"),
        (["--against", "level/v2", "--manifest", "nowhere.yaml"], 1, "nowhere.yaml: No such file or directory"),
    ],
)
def test_impossible_replays_are_reported_with_the_remedy(
    arguments: list[str],
    code: int,
    sentence: str,
    base: list[str],
    capture: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", str(capture), *base, *arguments]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "contains no captured requests to level.\n    `turnout serve --capture FILE` writes one."),
        ('noise\n{"turnout_capture": {"time": 1\n', "line 2: cannot read the captured request"),
        (None, "cannot read"),
    ],
)
def test_a_file_without_captures_exits_with_2(
    content: str | None, sentence: str, base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "capture.jsonl"
    if content is not None:
        path.write_text(content)
    assert main(["replay", str(path), "--against", "level/v2", *base]) == 2
    assert sentence in capsys.readouterr().err
