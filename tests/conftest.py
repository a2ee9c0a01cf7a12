"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from turnout.protocol.telemetry import disable_telemetry

# Machines are shared and slow at times: no property depends on milliseconds.
settings.register_profile("turnout", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=10)  # for `make check`
settings.load_profile("turnout")

disable_telemetry()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background processes with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

SLOW = (
    # Real servers, Pulumi's engine, real packages, separate processes.
    "tests/browser",
    "tests/console/test_console.py",
    "tests/console/test_kept_requests.py",
    "tests/console/test_runs.py",
    "tests/console/test_standalone.py",
    "tests/console/test_logged_requests.py",
    "tests/conversion/test_add.py",
    "tests/conversion/test_converters.py",
    "tests/conversion/test_environments.py",
    "tests/conversion/test_mlflow.py",
    "tests/conversion/test_python_code.py",
    "tests/conversion/test_python_version.py",
    "tests/conversion/test_samples.py",
    "tests/conversion/test_sources.py",
    "tests/e2e",
    "tests/engine",
    "tests/gateway/editions/test_api_keys.py",
    "tests/gateway/docs/test_pages.py",
    "tests/gateway/functions/in_process/test_functions.py",
    "tests/gateway/functions/isolated",
    "tests/gateway/shared",
    "tests/gateway/test_live_issuer.py",
    "tests/gateway/tracing/test_tracing.py",
    "tests/infra",
    "tests/packaging",
    "tests/test_locks.py",
    "tests/trials",
    # Each test opens models, or runs a command as a process.
    "tests/router_lambda/requests",
    "tests/canary/rollout/test_rollout.py",
    "tests/canary/rollout/test_way_back.py",
    "tests/cli/commands/test_add.py",
    "tests/cli/commands/test_build.py",
    "tests/cli/commands/test_invoke.py",
    "tests/cli/commands/test_plan.py",
    "tests/cli/commands/test_remove.py",
    "tests/cli/commands/test_replay.py",
    "tests/cli/commands/test_serve.py",
    "tests/cli/commands/test_test.py",
    "tests/cli/requests/test_stack.py",
    "tests/cli/test_hostile_text.py",
    "tests/cli/test_main.py",
    "tests/test_sample_models.py",
    # Many clients, many examples, large documents, AWS in this process.
    "tests/canary/judging/test_checks.py",
    "tests/canary/judging/test_sequential.py",
    "tests/canary/observation/test_cloudwatch.py",
    "tests/canary/observation/test_logged_samples.py",
    "tests/canary/rollout/test_stage_control.py",
    "tests/contract/test_telemetry.py",
    "tests/gateway/requests/test_queue_model.py",
    "tests/http_server/test_connections.py",
    "tests/http_server/test_fuzz.py",
    "tests/http_server/test_streaming.py",
    "tests/model_lambdas/function/test_fuzz.py",
    "tests/model_lambdas/function/test_own_modules.py",
    "tests/manifest/test_properties.py",
    "tests/openapi/test_document.py",
    "tests/openapi/test_import.py",
    "tests/openapi/test_public_document.py",
    "tests/plan/test_guard_alarms.py",
    "tests/plan/test_properties.py",
    "tests/project/test_remote_artifacts.py",
    "tests/protocol/routing/test_choice.py",
    "tests/soak/test_attacks.py",
)
"""Folders and files whose tests have the mark `slow`, which `make check` leaves out."""

UNMEASURED = ("tests/browser", "tests/conversion", "tests/engine", "tests/soak")
"""Folders whose tests start many processes, without coverage of those: it doubles their processor time."""

FAST = "not slow"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Fast runs do not even import slow folders and files, which would take longer than the tests."""
    return True if config.option.markexpr == FAST and is_within(collection_path, SLOW) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests."""
    slow = {path: is_within(path, SLOW) for path in {item.path for item in items}}
    for item in items:
        if slow[item.path]:
            item.add_marker(pytest.mark.slow)


def is_within(path: Path, places: Sequence[str]) -> bool:
    """Whether a file is one of these, or in one of these folders."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return any(name == place or name.startswith(f"{place}/") for place in places)


@pytest.fixture(scope="module", autouse=True)
def _processes_without_coverage(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if is_within(request.path, UNMEASURED):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _this_process_is_not_killed() -> Iterator[None]:
    """Fail a test that would kill its own process, its parent or their group, and with it the worker and all of its
    tests.

    A process may signal itself if it has a handler for that signal.
    """
    kill, killpg, own = os.kill, os.killpg, os.getpid()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def checked_kill(pid: int, number: int, /) -> None:
        if os.getpid() == own and number != 0:
            is_handled = pid == own and signal.getsignal(number) not in {signal.SIG_DFL, before.get(number)}
            assert pid > 1, f"os.kill({pid}) signals a whole group of processes"
            assert pid not in {own, os.getppid()} or is_handled, f"signal {number} would end this test process"
        kill(pid, number)

    def checked_killpg(group: int, number: int, /) -> None:
        assert group not in {0, os.getpgid(own)} or os.getpid() != own, "os.killpg would end this test process"
        killpg(group, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "kill", checked_kill)
        patch.setattr(os, "killpg", checked_killpg)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT
