from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import helper

from tests.builders.graphs import value, write_graph
from turnout.cli.__main__ import main

PATH = "/models/echo/v1/inference"


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict, str]:
    assert main(["openapi", *arguments]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_the_document_of_the_first_stage_is_printed_and_the_others_are_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported, err = document(capsys, "-m", str(project))
    assert reported["openapi"].startswith("3.0")
    assert reported["info"]["title"] == "shop-local_none"
    assert "--stage" in err


@pytest.mark.parametrize("choice", [("--stage", "prod"), ("--api", "shop-local_api_key")])
def test_a_stage_or_an_api_selects_the_document(
    choice: tuple[str, str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported, err = document(capsys, "-m", str(project), *choice)
    assert reported["info"]["title"] == "shop-local_api_key"
    assert err == ""


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_region_and_account_are_part_of_the_integrations(
    region: str, partition: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported, _ = document(capsys, "-m", str(project), "--region", region, "--account", "111122223333", "--stack", "eu")
    uri = reported["paths"][PATH]["post"]["x-amazon-apigateway-integration"]["uri"]
    assert uri.startswith(f"arn:{partition}:apigateway:{region}:lambda:path/")
    assert f"arn:{partition}:lambda:{region}:111122223333:function:shop-eu_echo_v1" in uri


def test_the_document_contains_the_example_of_the_version(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported, _ = document(capsys, "-m", str(project))
    assert '"data": [1, 1, 1, 1]' in json.dumps(reported["paths"][PATH])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stage", "nope"], "unknown stage 'nope'.\n    Known stages: dev, prod."),
        (["--api", "nope"], "unknown API 'nope'.\n    Known APIs: shop-local_none, shop-local_api_key."),
        (["--api", "a", "--stage", "b"], "--api and --stage cannot be combined"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(
    arguments: list[str], sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["openapi", "-m", str(project), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err


def test_a_document_too_large_for_aws_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = [value(f"weight_{number:090}", "FP32", [1]) for number in range(5000)]
    nodes = [helper.make_node("Identity", [weights[0].name], ["y"])]
    write_graph(tmp_path / "wide.onnx", nodes, weights, [value("y", "FP32", [1])])
    (tmp_path / "models.yaml").write_text(
        "models: {wide: {versions: {v1: {artifact: wide.onnx}}}}\nstages: {dev: {serve: {wide: v1}}}\n"
    )
    assert main(["openapi", "-m", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "WideVv1Request: largest schema: " in err
    assert "400.0 KB allowed\n    Export the model with fewer inputs" in err
