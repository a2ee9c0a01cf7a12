"""The edge of the process: exit codes, standard output and error, tracebacks only on request."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.waiting import PATIENCE_S
from tests.cli.conftest import write_project
from turnout import __version__
from turnout.cli.__main__ import debug_first, main
from turnout.cli.app import code_of_signal, print_error
from turnout.cli.output import CommandError
from turnout.problems import Problem, ProblemsError

COMMANDS = [
    *(
        "init",
        "validate",
        "plan",
        "build",
        "serve",
        "invoke",
        "replay",
        "add",
        "remove",
        "models",
        "openapi",
        "test",
        "canary",
    ),
]
HEAVY = {
    "google.protobuf",
    "httptools",
    "jsonschema",
    "numpy",
    "onnx",
    "onnxruntime",
    "orjson",
    "pydantic",
    "rich",
    "ruamel",
    "uvloop",
    "yaml",
}
"""Modules that --help does not need; each costs tens of milliseconds."""

LIST_MODULES = """
import sys
from turnout.cli.__main__ import main
code = main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "turnout.cli", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_no_summary_is_truncated_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("COMMAND [ARGS]...")[2]


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-c", LIST_MODULES, *arguments, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Usage: turnout {' '.join(arguments)}".strip())
    modules = set(done.stderr.split())
    assert "turnout.cli.app" in modules
    assert not modules & HEAVY


def test_a_command_imports_no_other_command() -> None:
    command = [sys.executable, "-c", LIST_MODULES, "validate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "turnout.cli.commands.validate" in modules
    assert not modules & {"turnout.cli.commands.add", "turnout.cli.canary.commands", "turnout.cli.keys.commands"}


@pytest.mark.parametrize("options", [[], ["--async"]], ids=["at once", "async"])
def test_invoke_sends_data_without_numpy(options: list[str], tmp_path: Path) -> None:
    request = ["invoke", "iris", "--data", "{}", "--url", "http://127.0.0.1:1", *options]
    command = [sys.executable, "-c", LIST_MODULES, *request]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "no server listens at http://127.0.0.1:1" in done.stderr
    assert "turnout.client.client" in done.stderr.split()
    assert "numpy" not in done.stderr.split()


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"turnout {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serv"], "No such command 'serv'"),
        (["validate", "--nope"], "No such option: --nope"),
        (["invoke"], "Missing argument 'MODEL'"),
        (["serve", "--port", "99999"], "Invalid value for '--port'"),
        (["serve", "--log-format", "xml"], "Invalid value for '--log-format'"),
        (["add", "iris"], "Missing argument 'VERSION'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_exits_with_2_and_prints_to_standard_error(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert "Usage: turnout" in err


@pytest.mark.parametrize("command", ["validate", "plan", "models", "openapi", "serve"])
def test_a_missing_manifest_exits_with_2_and_the_remedy(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--manifest", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{tmp_path}/models.yaml: there is no such file\n")
    assert "turnout init" in err
    assert err.endswith("turnout: 1 problem found.\n")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandError("no.", "Do this."), 2, "turnout: no.\n    Do this.\n"),
        (CommandError("no.", code=1), 1, "turnout: no.\n"),
        (
            ProblemsError((Problem("must be 1", ("a",), line=3, column=2), Problem("is bad", hint="Try."))),
            2,
            "models.yaml: is bad\n    Try.\nmodels.yaml:3:2: a: must be 1\nturnout: 2 problems found.\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "models.yaml"),
            1,
            "turnout: models.yaml: Permission denied\n",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "turnout: No space left on device\n"),
        (KeyError("x"), 1, "turnout: unexpected KeyError: 'x'\n    Add --debug to see the traceback.\n"),
    ],
    ids=["refused", "failed", "problems", "file", "disk", "bug"],
)
def test_an_exception_becomes_a_sentence_and_an_exit_code(
    error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_error(error) == code
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["plan"], ["plan"]),
        (["plan", "--debug"], ["--debug", "plan"]),
        (["--debug", "plan"], ["--debug", "plan"]),
        (["invoke", "--debug", "x", "--", "--debug"], ["--debug", "invoke", "x", "--", "--debug"]),
        (["invoke", "--", "--debug"], ["invoke", "--", "--debug"]),
    ],
)
def test_debug_is_accepted_anywhere_on_the_command_line(arguments: list[str], expected: list[str]) -> None:
    assert debug_first(arguments) == expected


def test_only_debug_shows_the_traceback(tmp_path: Path) -> None:
    quiet, loud = (run("plan", *debug, cwd=tmp_path) for debug in ([], ["--debug"]))
    assert (quiet.returncode, quiet.stdout) == (2, "")
    assert "Traceback" not in quiet.stderr
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr
    assert "ProblemsError" in loud.stderr


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "turnout.cli", "init", str(tmp_path / "project")]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_standard_error_leaves_the_exit_code_unchanged(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "turnout.cli", "plan", "-m", str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout) == (2, b"")


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 1)])
def test_a_closed_or_full_output_prints_no_traceback(closed: str, code: int, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m turnout.cli init "{tmp_path}/new" {closed}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_ctrl_c_exits_with_130_without_a_message(tmp_path: Path) -> None:
    fifo = tmp_path / "body.json"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "turnout.cli", "invoke", "iris", "--data", f"@{fifo}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # Opening a FIFO for writing waits for its reader: from here on the command is in the middle of its work.
    with fifo.open("wb"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("kind", [ImportError, SystemError])
@pytest.mark.parametrize(
    ("cause", "code"),
    [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (SystemExit("text"), None), (OSError(), None)],
)
def test_a_signal_during_the_import_of_an_extension_is_no_error(
    kind: type[Exception], cause: BaseException, code: int | None
) -> None:
    with pytest.raises(kind) as caused:
        raise kind("initialization failed") from cause
    assert code_of_signal(caused.value) == code
    with pytest.raises(ImportError) as outer:
        raise ImportError("numpy cannot be imported") from caused.value
    assert code_of_signal(outer.value) == code


def test_an_error_without_a_signal_is_reported() -> None:
    assert code_of_signal(ImportError("no module")) is None
    with pytest.raises(ValueError, match="x") as caused:
        raise ValueError("x") from KeyboardInterrupt()
    assert code_of_signal(caused.value) is None


INTERRUPTED = """
import os, signal, sys
from turnout.cli import __main__ as cli

class Last:
    def __init__(self, stream): self.stream, self.is_over = stream, False
    def __getattr__(self, name): return getattr(self.stream, name)
    def flush(self):
        self.stream.flush()
        if self.is_over: os.kill(os.getpid(), signal.SIGINT)

def ends(arguments):
    if sys.argv[1] == "before": os.kill(os.getpid(), signal.SIGINT)
    sys.stdout.is_over = True
    return 0

sys.stdout, cli.run_command = Last(sys.stdout), ends
cli.run_and_exit()
"""
"""Interrupt the command outside its own handling of Ctrl-C: around it, or while Python ends."""


@pytest.mark.parametrize(("moment", "code"), [("before", 130), ("after", 0)])
def test_ctrl_c_outside_the_command_never_ends_it_by_the_signal(moment: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, moment], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("arguments", [[], ["canary"]], ids=" ".join)
def test_a_group_without_a_command_prints_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: turnout {' '.join(arguments)}".rstrip())
    assert err == ""


@pytest.mark.parametrize(
    ("shell", "rc", "marker"),
    [
        ("bash", ".bashrc", "complete -o default -F _turnout_completion turnout"),
        ("zsh", ".zshrc", "fpath"),
        ("fish", ".config/fish/completions/turnout.fish", "complete --command turnout"),
    ],
)
def test_completion_is_installed(shell: str, rc: str, marker: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "turnout.cli", "--install-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"{shell} completion installed" in done.stdout
    assert (tmp_path / rc).exists()
    assert marker in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("shell", "environment"),
    [
        ("bash", {"COMP_WORDS": "turnout val", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "turnout val"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "turnout val", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_a_word_is_completed(shell: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "turnout.cli"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "_TURNOUT_COMPLETE": f"complete_{shell}"},
        check=False,
    )
    assert "validate" in done.stdout
    assert "plan" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["invoke", "iris", "--data", "{}"], {"TURNOUT_URL": "http://127.0.0.1:9"}),
        (["invoke", "iris", "--data", "{}", "--url", "http://127.0.0.1:9"], {"TURNOUT_URL": "http://127.0.0.1:1"}),
        (["invoke", "iris", "--data", "{}", "--endpoint-url", "http://127.0.0.1:9"], {}),
        (["canary", "status", "prod"], {"TURNOUT_URL": "http://127.0.0.1:9"}),
        (["canary", "status", "prod", "--url", "http://127.0.0.1:9"], {}),
        (["canary", "status", "prod", "--endpoint-url", "http://127.0.0.1:9"], {}),
        (["canary", "set", "prod", "--percent", "5", "--now"], {"TURNOUT_URL": "http://127.0.0.1:9"}),
    ],
    ids=str,
)
def test_a_server_is_selected_by_url_or_the_environment(
    arguments: list[str],
    environment: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = main([*arguments, "-m", str(write_project(tmp_path / "project"))])
    assert code == (0 if "status" in arguments else 1)
    assert "no server listens at http://127.0.0.1:9" in "".join(capsys.readouterr())


def test_the_environment_alone_does_not_allow_changing_a_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_URL", "http://127.0.0.1:9")
    project = write_project(tmp_path / "project")
    assert main(["canary", "set", "prod", "--percent", "5", "-m", str(project)]) == 0
    assert "5" in capsys.readouterr().out
