"""A real MLflow server on loopback, with its file store: aliases, versions, runs, and `turnout update`.

The server's environment is made by uv from mlflow_server.lock, once for each user.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import write_project
from tests.conversion.conftest import environment
from turnout.cli.__main__ import main
from turnout.conversion import environments
from turnout.project.project import load_project

LOCKS = Path(__file__).parent

TRUSTED = ["sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64"]
"""Types in a .skops file that skops does not trust by itself."""

REGISTER = f"""
TRUSTED = {TRUSTED}
import mlflow, mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
x, y = load_iris(return_X_y=True)
for strength in (1.0, 10.0):
    with mlflow.start_run() as run:
        model = LogisticRegression(max_iter=500, C=strength).fit(x, y)
        mlflow.sklearn.log_model(
            model, name="model", registered_model_name="flowers", pip_requirements=["scikit-learn"],
            serialization_format="skops",
        )
near = KNeighborsClassifier(algorithm="kd_tree").fit(x, y)
for number in (1, 2):
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            near, name="model", registered_model_name="near", pip_requirements=["scikit-learn"],
            serialization_format="skops", skops_trusted_types=TRUSTED,
        )
mlflow.MlflowClient().set_registered_model_alias("near", "champion", "1")
mlflow.MlflowClient().set_registered_model_alias("flowers", "champion", "1")
print("run", run.info.run_id)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with MLflow's server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "LOCKS", LOCKS)
        return environment("mlflow_server")


def run_there(python: Path, code: str, uri: str) -> str:
    variables = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([python, "-c", code], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("run "))


@pytest.fixture(scope="module")
def registry(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Return the server's address and the newest run."""
    environment("mlflow")
    environment("sklearn")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--backend-store-uri", str(folder / "mlruns"), "--artifacts-destination", str(folder / "files")]
    server = subprocess.Popen(
        [
            str(python),
            "-m",
            "mlflow",
            "server",
            *arguments,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={
            **os.environ,
            "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow 3.17 opens a file store only with it
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                opener.open(f"{uri}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None
                time.sleep(0.5)
        yield uri, run_there(python, REGISTER, uri)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_an_alias_is_pinned_and_its_successor_offered(
    registry: tuple[str, str],
    python: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, run = registry
    project = write_project(tmp_path / "project")
    there = ["-m", str(project)]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["add", "flowers", "v1", "mlflow:flowers@champion", *there]) == 2
    assert "export MLFLOW_TRACKING_URI" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["add", "flowers", "v1", "mlflow:flowers@champion", *there]) == 0
    source = load_project(project).manifest.model("flowers").version("v1").source
    assert source is not None
    assert (source.address, source.revision, source.converter) == ("mlflow:flowers@champion", "1", "sklearn")
    assert main(["update", "flowers", *there]) == 0
    assert "is version 1, which flowers v1 has. Nothing to add." in capsys.readouterr().out
    code = "import mlflow; mlflow.MlflowClient().set_registered_model_alias('flowers', 'champion', '2'); print('run -')"
    run_there(python, code, uri)
    before = (project / "models.yaml").read_bytes()
    assert main(["update", "flowers", *there]) == 0
    assert "is version 2 now, and flowers v1 has version 1" in capsys.readouterr().out
    assert (project / "models.yaml").read_bytes() == before
    assert main(["update", "flowers", "--add", "v2", *there]) == 0
    models = load_project(project).manifest.model("flowers")
    assert [version.source.revision for version in models.versions if version.source] == ["1", "2"]
    assert main(["add", "flowers", "v3", f"runs:/{run}/model", *there]) == 0
    for address in ("mlflow:flowers@nobody", "mlflow:flowers"):
        assert main(["add", "flowers", "v4", address, *there]) == 2
    assert "mlflow:flowers names no version" in capsys.readouterr().err


@pytest.fixture
def project(registry: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose commands use the registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry[0])
    return write_project(tmp_path / "project")


def test_a_version_of_a_registered_model_is_added_by_its_number(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["add", "flowers", "v1", "mlflow:flowers/2", "-m", str(project)]) == 0
    source = load_project(project).manifest.model("flowers").version("v1").source
    assert source is not None
    assert (source.address, source.revision) == ("mlflow:flowers/2", "2")
    assert main(["add", "flowers", "v2", "mlflow:flowers/9", "-m", str(project)]) == 2
    assert "mlflow:flowers/9 cannot be read" in capsys.readouterr().err


def test_an_update_takes_the_options_of_an_addition(
    registry: tuple[str, str], python: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "my rows.json"
    samples.write_text("[[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5]]")
    own = ["--samples", str(samples), "--rtol", "0.01", *(word for name in TRUSTED for word in ("--trust", name))]
    there = ["-m", str(project)]
    assert main(["add", "near", "v1", "mlflow:near@champion", *own, *there]) == 0
    code = "import mlflow; mlflow.MlflowClient().set_registered_model_alias('near', 'champion', '2'); print('run -')"
    run_there(python, code, registry[0])
    assert main(["update", "near", "--add", "v2", *there]) == 2
    assert f"    --trust {TRUSTED[0]}\n" in capsys.readouterr().err
    assert main(["update", "near", *own, *there]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:5] == ["turnout", "update", "near", "--add", "VERSION"]
    assert main([word.replace("VERSION", "v2") for word in words[1:]]) == 0
    version = load_project(project).manifest.model("near").version("v2")
    assert version.source is not None
    assert version.source.revision == "2"
    proof = json.loads((project / version.source.report).read_text())["proof"]
    assert (proof["groups"]["samples"], proof["tolerance"]["relative"]) == (2, 0.01)
