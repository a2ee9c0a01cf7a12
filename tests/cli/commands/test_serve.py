"""`turnout serve` in cases where it cannot start; tests/e2e covers the others."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.builders.running_server import running_server, serve_command
from tests.builders.waiting import PATIENCE_S
from turnout.cli.__main__ import main
from turnout.cli.commands.serve import make_door, parse_memory
from turnout.cli.output import CommandError
from turnout.system.service_tokens import ServicesMode


def serve(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is not expected to start."""
    command = serve_command(project, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


def test_a_port_in_use_exits_with_1_and_the_remedy(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(project, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"turnout: cannot listen on 127.0.0.1:{port}: Address already in use.\n    Another program "
        "listens there. Choose another port with --port.\n"
    )


def test_an_unknown_stage_exits_with_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "-m", str(project), "--stage", "beta"]) == 2
    assert capsys.readouterr().err == "turnout: unknown stage 'beta'.\n    Known stages: dev, prod.\n"


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ("plenty", "expected an amount of memory such as 2GB or 512MB, got 'plenty'."),
        ("-2GB", "expected an amount of memory such as 2GB or 512MB, got '-2GB'."),
        ("2 parsecs", "expected an amount of memory such as 2GB or 512MB, got '2 parsecs'."),
        ("2", "must be at least 64MB, got '2'."),
        ("63MiB", "must be at least 64MB, got '63MiB'."),
    ],
)
def test_an_invalid_amount_of_memory_exits_with_2(
    project: Path, capsys: pytest.CaptureFixture[str], amount: str, says: str
) -> None:
    assert main(["serve", "-m", str(project), "--max-memory", amount]) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_amounts_of_memory() -> None:
    amounts = {"64MB": 2**26, "1.5 GiB": 3 * 2**29, "2g": 2**31, "1TB": 2**40, "100000000": 10**8, "65536kb": 2**26}
    assert {text: parse_memory(text) for text in amounts} == amounts


def test_an_address_of_another_machine_exits_with_1(project: Path) -> None:
    done = serve(project, "--host", "192.0.2.1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "turnout: cannot listen on 192.0.2.1:0: Cannot assign requested address.\n"


def test_an_unwritable_capture_exits_with_2(project: Path) -> None:
    done = serve(project, "--capture", str(project))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"turnout: cannot capture to {project}: Is a directory.\n"


def test_the_default_stage_answers_paths_without_one(project: Path) -> None:
    with running_server(project, "--stage", "prod", "--log-format", "json", "--preload") as server:
        refused = server.post("/models/echo/inference", {"instances": [[1, 2, 3, 4]]})
        answer = server.post(
            "/models/echo/v1/inference", {"instances": [[1, 2, 3, 4]]}, x_api_key=server.api_key("prod")
        )
        assert (refused.status, answer.status) == (403, 200)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.stdout.read_text().startswith("{")


def test_no_access_log_leaves_standard_output_empty(project: Path) -> None:
    with running_server(project, "--no-access-log") as server:
        assert server.post("/models/echo/v1/inference", {"instances": [[1, 2, 3, 4]]}).status == 200
        assert server.post("/nothing", {}).status == 403
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.stdout.read_text() == ""


@pytest.mark.parametrize(
    ("host", "is_wanted", "may_write", "access"),
    [
        ("127.0.0.1", None, False, "here, writes"),
        ("127.0.0.1", False, False, "none"),
        ("0.0.0.0", None, False, "none"),
        ("0.0.0.0", True, False, "open, reads"),
        ("0.0.0.0", True, True, "open, writes"),
        ("0.0.0.0", None, True, "open, writes"),
    ],
)
def test_other_machines_get_the_console_only_on_request(
    host: str, is_wanted: bool | None, may_write: bool, access: str
) -> None:
    door = make_door(host, None, is_wanted=is_wanted, may_write=may_write)
    described = door and f"{'open' if door.is_open else 'here'}, {'writes' if door.may_write else 'reads'}"
    assert (described or "none") == access


@pytest.mark.parametrize(("services", "is_wanted"), [(ServicesMode.OFF, None), (None, False)])
def test_console_write_without_a_console_is_an_error(services: ServicesMode | None, is_wanted: bool | None) -> None:
    with pytest.raises(CommandError, match="--console-write needs"):
        make_door("0.0.0.0", services, is_wanted=is_wanted, may_write=True)
