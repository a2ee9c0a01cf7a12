"""A missing optional package is reported with the extra that installs it, when a command needs it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from turnout.artifacts.onnx_file import ArtifactError
from turnout.aws_client import make_aws_client
from turnout.canary.rollout.stage_control import StageControlError, StageTarget, make_client
from turnout.extras import EXTRAS, MissingPackageError, install_hint
from turnout.packaging.layer import LayerError, find_uv
from turnout.project.remote_artifacts import download_object

HINT = "Install the extra turnout[aws], or run: pip install 'boto3>=1.35'"


@pytest.fixture
def without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"boto3", "botocore"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "botocore", None)


def test_extras_are_those_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for name, extra in EXTRAS.items():
        assert extra.requirement in project["optional-dependencies"][extra.name]
        assert not [dependency for dependency in project["dependencies"] if dependency.startswith(f"{name}>")]
    assert "turnout[build]" in project["optional-dependencies"]["aws"]
    assert install_hint("boto3") == HINT


@pytest.mark.usefixtures("without_boto3")
def test_a_stage_on_aws_without_boto3_names_the_extra() -> None:
    with pytest.raises(StageControlError, match="a stage of stack prod needs boto3, which is not") as caught:
        make_client("apigateway", StageTarget("prod"))
    assert caught.value.hint == HINT


@pytest.mark.usefixtures("without_boto3")
def test_an_artifact_in_s3_without_boto3_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"s3://bucket/a/model\.onnx needs boto3, which is") as caught:
        download_object("bucket", "a/model.onnx", tmp_path / "model.onnx")
    assert caught.value.hint == HINT


@pytest.mark.usefixtures("without_boto3")
def test_a_client_without_boto3_names_the_extra() -> None:
    with pytest.raises(MissingPackageError, match="needs boto3") as caught:
        make_aws_client("s3")
    assert caught.value.hint == HINT


def test_packages_without_uv_name_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LayerError, match=r"needs uv, which is not installed\. Install the extra turnout\[build\]"):
        find_uv()


def test_uv_on_the_path_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_uv() == str(tmp_path / "uv")
