"""A user's project, made by the installed wheel and deployed by its three lines, with really built packages."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import boto3
import pytest

from tests.builders.installed_wheel import Installed, install_wheel
from tests.builders.waiting import PATIENCE_S
from tests.engine.life import functions
from tests.engine.stand_in.aws import REGION
from tests.engine.world import World

"""The test builds the layer and the functions' zips."""

UP = """
import json, os, runpy, sys
from pulumi import automation

folder = sys.argv[1]
os.chdir(folder + "/infra")
options = automation.LocalWorkspaceOptions(work_dir=folder, env_vars=json.loads(sys.argv[2]))
stack = automation.create_or_select_stack(
    "test", program=lambda: runpy.run_path(folder + "/infra", run_name="__main__"), opts=options,
    project_name="turnout",
)
stack.set_config("aws:region", automation.ConfigValue(sys.argv[3]))
done = stack.up()
print(json.dumps({"changes": done.summary.resource_changes, "endpoints": done.outputs["endpoints"].value}))
sys.stdout.flush()
os._exit(0)  # the Automation API leaves threads behind
"""
"""Pulumi's own host for Python is a plugin that is not built here, so the program is passed to the engine in process.
It is run as that host would run it: as a folder, and inside the folder.
"""


@pytest.fixture
def installed(tmp_path: Path, root: Path) -> Installed:
    (tmp_path / "wheel").mkdir()
    return install_wheel(root, tmp_path / "wheel")


def test_new_project_is_deployed_by_its_three_lines(world: World, installed: Installed) -> None:
    # The program runs in its own process, whose boto3 does not reach this account, so it leaves the role unchanged.
    role = {"op": "replace", "path": "/cloudwatchRoleArn", "value": "arn:aws:iam::123456789012:role/logs"}
    boto3.client("apigateway").update_account(patchOperations=[role])
    installed.run("init", "my-models")
    folder = installed.elsewhere / "my-models"

    first = deploy(world, installed, folder)
    assert first["changes"].keys() == {"create"}
    assert first["endpoints"].keys() == {"dev", "prod"}
    assert {"turnout-test_iris_v1", "turnout-test_iris_v2", "turnout-test_router"} <= functions()
    (layer,) = boto3.client("lambda").list_layers()["Layers"]
    assert layer["LayerName"] == "turnout-test_layer_arm64_python3-13"
    made = boto3.client("lambda").get_function(FunctionName="turnout-test_iris_v1")["Configuration"]
    assert made["Handler"] == "model_lambdas.function.entry.handler"
    assert [entry["Arn"] for entry in made["Layers"]] == [layer["LatestMatchingVersion"]["LayerVersionArn"]]
    (package,) = (folder / ".turnout" / "packages").glob("iris_v1-*.zip")
    assert made["CodeSize"] == package.stat().st_size
    with zipfile.ZipFile(io.BytesIO(package.read_bytes())) as archive:
        assert "model_lambdas/function/entry.py" in archive.namelist()

    # The same bytes again: nothing to do.
    world.aws.sent.clear()
    assert deploy(world, installed, folder)["changes"].keys() == {"same"}
    assert world.aws.sent == []


def deploy(world: World, installed: Installed, folder: Path) -> dict[str, dict[str, object]]:
    environment = {**installed.environment, "PATH": os.environ["PATH"], **world.environment}
    done = subprocess.run(
        [str(installed.python), "-c", UP, str(folder), json.dumps(world.environment), REGION],
        cwd=installed.elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * PATIENCE_S,  # a whole deployment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    body: dict[str, dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return body
