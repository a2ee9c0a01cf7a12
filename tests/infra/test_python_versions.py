"""Deployed Python versions: the same handler as for every version, with the layer of their own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.builders.deployed import deployed
from tests.builders.pulumi_program import Program
from tests.builders.python_project import write_python_project
from tests.builders.shared_layers import shared_layers
from turnout.packaging.build import HANDLER, BuildTarget, build_packages
from turnout.packaging.routers import find_routers


def deploy_folder(folder: Path, factory: pytest.TempPathFactory) -> Program:
    def build(project: Any, plan: Any) -> Any:
        routers = find_routers(project, plan)
        with shared_layers(folder / "out", factory) as out:
            return build_packages(project, out=out, target=BuildTarget(python=""), routers=routers)

    return deployed(folder, build=build)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = write_python_project(tmp_path_factory.mktemp("deployed"))
    text = (folder / "models.yaml").read_text()
    more = "v2/predict.py, memory_mb: 2048, timeout_s: 20, environment: {PLACE: here},"
    (folder / "models.yaml").write_text(text.replace("v2/predict.py,", more))
    return deploy_folder(folder, tmp_path_factory)


def test_a_python_version_has_the_common_handler_and_the_layer_of_its_runtime(program: Program) -> None:
    functions = program.of("lambda/function:Function")
    layers = {resource.name: resource for resource in program.of("lambda/layerVersion:LayerVersion").values()}
    assert len(layers) == 2
    (python,) = (name for name in layers if "for-python" in name)
    (onnx,) = layers.keys() - {python}
    for name, layer in (("echo_v1", onnx), ("echo_v2", python), ("echo_v3", python)):
        function = functions[name].inputs
        assert function["handler"] == HANDLER
        (arn,) = function["layers"]
        assert arn.endswith(f"/{layer}")
    assert layers[python].inputs["compatibleRuntimes"] == layers[onnx].inputs["compatibleRuntimes"]


def test_its_settings_reach_the_function(program: Program) -> None:
    function = program.of("lambda/function:Function")["echo_v2"].inputs
    assert (function["memorySize"], function["timeout"]) == (2048, 20)
    assert function["environment"]["variables"]["PLACE"] == "here"


def test_a_version_that_cannot_be_opened_is_not_deployed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_python_project(tmp_path)
    path = tmp_path / "models/echo/v3/predict.py"
    path.write_text("import jinja2\n" + path.read_text())
    with pytest.raises(pulumi.RunError, match=r"versions\.v3\.artifact: predict\.py imports `jinja2`"):
        deploy_folder(tmp_path, tmp_path_factory)
