"""Every example of every sample version, sent to a running server in every form that a request can have."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import orjson
import pytest
import yaml

from tests.builders.request_forms import as_binary, as_columns, as_instances, is_plain, read_binary
from tests.builders.running_server import Answer, RunningServer
from tests.builders.waiting import PATIENCE_S
from turnout.artifacts.examples import Example, matches, read_examples

ROOT = Path(__file__).resolve().parents[2]


def sample_examples() -> list[tuple[str, str, Example]]:
    """(model, version, example) of all examples in models.yaml."""
    models = yaml.safe_load((ROOT / "models.yaml").read_text())["models"]
    return [
        (model, version, example)
        for model, entry in models.items()
        for version, settings in entry["versions"].items()
        for example in read_examples(ROOT / settings["examples"])
    ]


EXAMPLES = [
    pytest.param(model, version, example, id=f"{model}-{version}-{example.name}")
    for model, version, example in sample_examples()
]
NEWEST = {model: version for model, version, _ in sample_examples()}
PLAIN = [case for case in EXAMPLES if is_plain(case.values[2])]  # type: ignore[arg-type]


def check(answer: Answer, model: str, version: str, canary: tuple[str, ...] = ("false",)) -> None:
    assert answer.status == 200, answer.body
    assert answer.headers["x-turnout-model"] == model
    assert answer.headers["x-turnout-version"] == version
    assert len(answer.headers["x-turnout-digest"]) == 12
    assert answer.headers["x-turnout-canary"] in canary


def test_every_version_has_examples() -> None:
    assert len({(model, version) for model, version, _ in sample_examples()}) == 6


@pytest.mark.parametrize(("model", "version", "example"), EXAMPLES)
def test_an_example_is_answered_as_expected(sample: RunningServer, model: str, version: str, example: Example) -> None:
    key = sample.api_key("prod")
    with sample.client() as client:
        for stage in ("", "/dev", "/prod"):
            answer = client.post(f"{stage}/models/{model}/{version}/inference", example.request, x_api_key=key)
            # The share of a request to `prod` is random; the version in its path applies in both shares.
            check(answer, model, version, ("true", "false") if stage == "/prod" else ("false",))
            assert answer.headers["content-type"] == "application/json"
            assert matches(example, answer.json()) == []
        if version == NEWEST[model]:
            answer = client.post(f"/models/{model}/inference", example.request)
            check(answer, model, version)
            assert matches(example, answer.json()) == []


@pytest.mark.parametrize(("model", "version", "example"), PLAIN)
def test_an_example_is_answered_the_same_in_the_short_forms(
    sample: RunningServer, model: str, version: str, example: Example
) -> None:
    path = f"/models/{model}/{version}/inference"
    columns = sample.post(path, as_columns(example.request))
    check(columns, model, version)
    assert isinstance(columns.json()["outputs"], dict)
    assert matches(example, columns.json()) == []
    instances = as_instances(example.request)
    if instances is not None:
        rows = sample.post(path, instances)
        check(rows, model, version)
        assert matches(example, rows.json()) == []
        assert "predictions" in rows.json()


@pytest.mark.parametrize(("model", "version", "example"), PLAIN)
def test_an_example_is_answered_the_same_in_binary(
    sample: RunningServer, model: str, version: str, example: Example
) -> None:
    path = f"/models/{model}/{version}/inference"
    for binary_output in (False, True):
        body, length = as_binary(example.request, binary_output=binary_output)
        answer = sample.post(
            path,
            body,
            content_type="application/octet-stream",
            accept="application/octet-stream",
            inference_header_content_length=str(length),
        )
        check(answer, model, version)
        if binary_output:
            assert answer.headers["content-type"] == "application/octet-stream"
            head = int(answer.headers["inference-header-content-length"])
            assert matches(example, read_binary(answer.body, head)) == []
        else:
            assert matches(example, answer.json()) == []


def test_each_digest_belongs_to_one_version(sample: RunningServer) -> None:
    digests = {
        (model, version): sample.post(f"/models/{model}/{version}/inference", example.request).headers[
            "x-turnout-digest"
        ]
        for model, version, example in sample_examples()
    }
    assert len(set(digests.values())) == len(digests) == 6


def test_the_id_of_a_request_is_returned(sample: RunningServer) -> None:
    model, version, example = next(case for case in sample_examples() if is_plain(case[2]))
    answer = sample.post(f"/models/{model}/{version}/inference", {**example.request, "id": "called-seven"})
    assert answer.json()["id"] == "called-seven"


def test_outputs_can_be_chosen(sample: RunningServer) -> None:
    model, version, example = next(case for case in sample_examples() if is_plain(case[2]))
    name = example.outputs[-1].name
    answer = sample.post(f"/models/{model}/{version}/inference", {**example.request, "outputs": [{"name": name}]})
    assert [tensor["name"] for tensor in answer.json()["outputs"]] == [name]


def test_every_request_has_a_line_in_the_access_log(sample: RunningServer) -> None:
    for number in range(5):
        sample.request("GET", f"/nothing/here/{number}")
    with sample.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        while connection.recv(4096):
            pass
    lines = sample.await_log(lambda text: text.count("/nothing/here/") >= 5 and " - - 400 " in text).splitlines()
    for number in range(5):
        (line,) = [line for line in lines if f" /nothing/here/{number} " in line]
        assert line.partition(" ")[2].startswith("127.0.0.1 GET ")
        assert " 403 " in line
        assert "function=-" in line


def test_preloading_is_reported(sample: RunningServer) -> None:
    text = sample.stderr.read_text()
    for model, version, _ in sample_examples():
        assert f"{model} {version} loaded in" in text


def test_the_suggested_curl_command_works(sample: RunningServer) -> None:
    text = sample.stderr.read_text()
    (command,) = [line for line in text.splitlines() if line.strip().startswith("curl ")]
    done = subprocess.run(shlex.split(command), capture_output=True, timeout=PATIENCE_S, check=True)
    assert orjson.loads(done.stdout)["outputs"]
