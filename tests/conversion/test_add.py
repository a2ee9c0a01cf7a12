"""`turnout add` with models of other libraries, from the command line to models.yaml."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import joblib
import numpy as np
import pytest
import skops.io
from moto import mock_aws
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.builders.markdown import comparable
from tests.builders.waiting import PATIENCE_S
from tests.cli.conftest import write_project
from tests.conversion.conftest import environment
from turnout.cli.__main__ import main
from turnout.conversion.environments import find_environment
from turnout.conversion.errors import ConversionError
from turnout.conversion.jobs import JobLimits, run_job
from turnout.project.project import load_project

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(100, 3))
JOB = {"trusted_types": [], "runtime": "", "modules": []}
Y = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment("sklearn")
    folder = tmp_path_factory.mktemp("models")
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    skops.io.dump(fitted, folder / "model.skops")
    joblib.dump(fitted, folder / "model.joblib")
    skops.io.dump(KNeighborsClassifier(algorithm="kd_tree").fit(X, Y), folder / "tree.skops")
    np.save(folder / "rows.npy", X[:20])
    (folder / "rows.csv").write_text("a,b,c\n1,2,3\n0.5,-1,2\n")
    return folder


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Return every file and folder except those that can be made again; leftovers of conversions count."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".turnout" not in path.parts or "converting-" in str(path) or "adding-" in str(path)
    }


def test_a_model_is_converted_verified_and_added(
    project: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["add", "spam", "v1", str(models / "model.skops"), "--samples", str(models / "rows.npy")]
    assert main([*command, "-m", str(project), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["proof"]["holds"]
    assert row["proof"]["groups"]["samples"] == 20
    assert row["proof"]["batches"] == [1, 100, row["proof"]["rows"]]
    version = load_project(project).manifest.model("spam").version("v1")
    source = version.source
    assert source is not None
    assert (source.address, source.converter, source.report) == (
        "model.skops",
        "sklearn",
        "models/spam/v1/conversion.json",
    )
    assert source.packages["scikit-learn"]
    assert len(source.sha256) == 64
    report = json.loads((project / source.report).read_text())
    assert report["proof"]["rows"] == row["proof"]["rows"]
    assert "all agree" in (project / "models/spam/v1/conversion.md").read_text()
    examples = json.loads((project / version.examples).read_text())
    assert [example["name"] for example in examples] == [*(f"sample {at}" for at in range(1, 6)), "samples 1-5"]
    assert examples[0]["request"]["inputs"][0]["data"] == X[0].tolist()
    assert not list((project / ".turnout").glob("converting-*"))
    assert main(["test", "spam", "-m", str(project)]) == 0
    capsys.readouterr()
    assert main(["models", "-m", str(project), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert listed[1]["versions"][0]["source"]["converter"] == "sklearn"


@pytest.mark.parametrize(
    ("file", "options", "says"),
    [
        ("model.joblib", [], "is a pickle: loading it runs whatever code is in it"),
        ("tree.skops", [], "    --trust sklearn.neighbors._kd_tree.KDTree\n"),
        ("model.skops", ["--converter", "spark"], "unknown converter 'spark'"),
        ("model.skops", ["--sha256", "0" * 64], "has sha256"),
        ("model.skops", ["--sha256", "12"], "--sha256 must be 64 hexadecimal digits"),
        ("model.skops", ["--samples", "rows.txt"], "rows.txt is not a file of samples"),
        ("model.skops", ["--samples", "missing.csv"], "missing.csv cannot be read"),
        ("missing.skops", [], "missing.skops: no such file or folder"),
        ("rows.csv", [], "Known kinds:"),
    ],
)
def test_a_rejected_conversion_changes_nothing(
    file: str,
    options: list[str],
    says: str,
    project: Path,
    models: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = content_of(project)
    options = [str(models / word) if word.startswith(("rows.", "missing.")) else word for word in options]
    assert main(["add", "spam", "v1", str(models / file), *options, "-m", str(project)]) == 2
    assert says in capsys.readouterr().err
    assert content_of(project) == before


def test_a_trusted_pickle_and_a_trusted_type_are_converted(
    project: Path, models: Path, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    """The pickle comes from S3, and its samples are JSON: docs/models.md shows the output. The samples of the other
    model are CSV.
    """
    (models / "rows.json").write_text(json.dumps(X[:7].tolist()))
    add = ["add", "flowers"]
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="models")
        put = client.put_object(
            Bucket="models", Key="flowers/model.joblib", Body=(models / "model.joblib").read_bytes()
        )
        command = [*add, "v1", "s3://models/flowers/model.joblib", "--samples", str(models / "rows.json")]
        assert main([*command, "--trust-pickle", "-m", str(project)]) == 0
    printed = "".join(capsys.readouterr()).replace(f"{project}/", "")
    shown = (root / "docs" / "models.md").read_text().partition("--samples rows.json\n")[2].partition("```")[0]
    shown = shown.replace("flowers v2", "flowers v1").replace("flowers/v2", "flowers/v1").replace(".skops", ".joblib")
    lines = set(comparable(printed)[0].splitlines())
    assert set(comparable(shown)[0].splitlines()) <= lines
    source = load_project(project).manifest.model("flowers").version("v1").source
    assert source is not None
    assert (source.address, source.revision) == ("s3://models/flowers/model.joblib", put["ETag"].strip('"'))
    assert json.loads((project / source.report).read_text())["proof"]["groups"]["samples"] == 7
    names = ["sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64"]
    trusted = [word for name in names for word in ("--trust", name)]
    command = [*add, "v2", str(models / "tree.skops"), *trusted, "--samples", str(models / "rows.csv")]
    assert main([*command, "-m", str(project)]) == 0


def test_printed_command_serves_a_model_without_an_onnx_form(
    project: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It keeps every option: without them the pickle, the samples, the tolerance and the project would be others."""
    odd = make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()).fit(X, Y)
    path = tmp_path / "my models" / "odd.joblib"
    path.parent.mkdir()
    joblib.dump(odd, path)
    options = ["--trust-pickle", "--rtol", "0.01", "--samples", str(models / "rows.npy"), "--json"]
    assert main(["add", "odd", "v1", str(path), *options, "-m", str(project)]) == 2
    printed = capsys.readouterr().err.partition("Serve it as Python instead: ")[2].splitlines()[0]
    words = shlex.split(printed)
    assert words[0] == "turnout"
    assert main(words[1:]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["proof"]["tolerance"]["relative"] == 0.01
    assert row["proof"]["groups"]["samples"] == 20
    assert load_project(project).manifest.model("odd").version("v1").runtime == "python"


def test_a_difference_is_rejected_and_its_rows_are_shown(
    project: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tolerance cannot be met: the graph of this model has errors of a few units in the last place."""
    environment("xgboost")
    folder = models / "boosted"
    folder.mkdir(exist_ok=True)
    train = (
        "import sys, numpy as np, xgboost as xgb\n"
        "x = np.random.default_rng(0).normal(size=(200, 3)); y = x @ [3.3, 1.7, -2.9] + 1000.1\n"
        "xgb.train({}, xgb.DMatrix(x, label=y), 40).save_model(sys.argv[1])\n"
    )
    path = folder / "model.ubj"
    subprocess.run([environment("xgboost"), "-c", train, str(path)], check=True)
    before = content_of(project)
    command = ["add", "price", "v1", str(path), "--rtol", "0", "--atol", "0", "-m", str(project)]
    assert main([*command, "--json"]) == 1
    out, err = capsys.readouterr()
    assert "does not answer like its original, so nothing was added" in err
    assert "rows differ." in err
    assert "original: prediction=" in err
    assert "Usual causes:" in err
    row = json.loads(out)
    assert not row["added"]
    assert row["proof"]["disagreeing_rows"] > 0
    assert content_of(project) == before


def test_a_difference_names_the_command_that_serves_the_original(
    project: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["add", "spam", "v1", str(models / "model.skops"), "--rtol", "0.0", "--atol", "0.0", "-m", str(project)]
    assert main(command) == 1
    words = capsys.readouterr().err.splitlines()[-1].partition("To serve the original itself: ")[2]
    assert shlex.split(words) == ["turnout", *command[:4], "--runtime", "python", *command[4:]]


def test_limits_of_time_and_memory(models: Path, tmp_path: Path) -> None:
    arguments = {
        "path": str(models / "model.skops"),
        "trust_pickle": False,
        "trusted_types": [],
        "out": str(tmp_path),
    } | JOB
    python = environment("sklearn")
    with pytest.raises(ConversionError, match=r"longer than 0\.01 s"):
        run_job(python, "sklearn_model", arguments, tmp_path, limits=JobLimits(0.01))
    with pytest.raises(ConversionError, match=r"memory|process ended"):
        run_job(python, "sklearn_model", arguments, tmp_path, limits=JobLimits(memory_mb=20))


def test_a_converter_has_no_network_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    python = environment("sklearn")

    class Spy:
        """What the pickle does when it is loaded."""

        def __reduce__(self) -> tuple[object, tuple[str]]:
            code = (
                "import os, socket\n"
                "s = socket.socket(); s.settimeout(1)\n"
                "assert 'AWS_SECRET_ACCESS_KEY' not in os.environ\n"
                "try:\n    s.connect(('192.0.2.1', 80))\n"
                "except TimeoutError:\n    raise SystemError('there is a network')\n"
                "except OSError as error:\n    raise SystemError(f'cut off: {error}')\n"
            )
            return exec, (code,)

    joblib.dump(Spy(), tmp_path / "spy.pkl")
    arguments = {
        "path": str(tmp_path / "spy.pkl"),
        "trust_pickle": True,
        "trusted_types": [],
        "out": str(tmp_path),
    } | JOB
    with pytest.raises(ConversionError, match="cut off"):
        run_job(python, "sklearn_model", arguments, tmp_path, limits=JobLimits())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_nothing_behind(number: signal.Signals, project: Path, models: Path) -> None:
    before = content_of(project)
    rng = random.Random(number)
    command = [
        sys.executable,
        "-m",
        "turnout.cli",
        "add",
        "spam",
        "v1",
        str(models / "model.skops"),
        "-m",
        str(project),
    ]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        process.stderr.readline()  # a signal while Python itself starts ends it as Python does
        time.sleep(rng.uniform(0.0, 4.0))
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
        code = process.returncode
        if code == 0:  # models.yaml was edited before the signal
            assert load_project(project).manifest.model("spam").version("v1")
            return
        assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}.get(number) or code < 0
        if number is not signal.SIGKILL:
            assert content_of(project) == before
    # The next conversion deletes what a killed one has left behind, and models.yaml never named it.
    assert main(["add", "spam", "v1", str(models / "model.joblib"), "-m", str(project)]) == 2
    assert content_of(project) == before
    assert not running_jobs(project)


def running_jobs(project: Path) -> list[str]:
    """Return the processes that work in the project's folder."""
    result = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                folder = (entry / "cwd").readlink()
            except OSError:
                continue
            if folder.is_relative_to(project):
                result.append(f"{entry.name} {folder}")
    return result


def test_uv_is_needed_only_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environment("sklearn")
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert find_environment("sklearn", lambda _: None) == made
    monkeypatch.setenv("TURNOUT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(ConversionError) as caught:
        find_environment("sklearn", lambda _: None)
    assert caught.value.hint
    assert not list(tmp_path.glob("converters/[!.]*"))
    assert not list(tmp_path.glob("converters/.*.part"))
