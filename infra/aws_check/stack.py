"""A Pulumi stack that is created and destroyed by one check, with its state in its own folder.

The state is kept until everything is destroyed, so that a later run can destroy what a killed check has left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSPHRASE = "throwaway"  # noqa: S105 - the state holds the keys of an API that lives for minutes, in a private folder
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Deployed:
    """The stack's outputs: address, key and API identifier of each stage."""

    endpoints: Mapping[str, str]
    keys: Mapping[str, str]
    rest_apis: Mapping[str, str]


class ThrowawayStack:
    """The stack of one check.

    Args:
        home: the stack's folder, with the project and Pulumi's state.
        name: the stack's name, such as `check3f9a1c`.
        region: the AWS region.
        program: deploys the project; Pulumi's engine runs it in this process.
        settings: the stack's configuration, `turnout:...`.
        environment: additional environment variables of the engine.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        region: str,
        program: Callable[[], None],
        *,
        settings: Mapping[str, str] = {},
        environment: Mapping[str, str] = {},
    ) -> None:
        self.home = home
        self.name = name
        self.region = region
        self._program = program
        self._settings = settings
        self._environment = environment
        self._opened: Any = None
        self._update_ended: threading.Event | None = None

    def up(self, *, refresh: bool = False) -> Deployed:
        """Deploy the project's current state; with `refresh`, read the account's state first.

        Raises:
            pulumi.automation.CommandError: the deployment failed.
        """
        stack = self._stack()
        result = self._wait_for(lambda: stack.up(on_output=_indented, refresh=refresh))
        outputs = {name: output.value for name, output in result.outputs.items()}
        return Deployed(outputs["endpoints"], outputs.get("api_keys", {}), outputs["rest_apis"])

    def destroy(self) -> None:
        """Destroy everything, then delete the state. Resources of an interrupted update are looked up first.

        Raises:
            pulumi.automation.CommandError: it failed repeatedly; the state is kept.
        """
        from pulumi.automation import CommandError

        if self._update_ended is not None:
            self._update_ended.wait()
        for attempt in range(ATTEMPTS):
            stack = self._stack()
            with suppress(CommandError):  # usually there is no lock
                stack.cancel()
            try:
                stack.destroy(on_output=_indented, refresh=attempt > 0, run_program=False)
                break
            except CommandError:
                if attempt == ATTEMPTS - 1:
                    raise
        shutil.rmtree(self.home)

    def _wait_for(self, update: Callable[[], Any]) -> Any:
        """Return an update's result. If the wait is interrupted, the update still continues.

        Interrupting the update itself would kill the engine while AWS creates a resource, which the state would then
        lack. An event is waited for, because up to Python 3.12 a thread whose `join` was interrupted counts as ended.
        """
        entries: list[Any] = []
        ended = threading.Event()

        def run() -> None:
            try:
                entries.extend((update(), None))
            except BaseException as error:
                entries.extend((None, error))
            finally:
                ended.set()

        self._update_ended = ended
        try:
            threading.Thread(target=run).start()
        except RuntimeError:  # there is no room for a thread
            ended.set()
            raise
        ended.wait()
        result, error = entries
        if error is not None:
            raise error
        return result

    def _stack(self) -> Any:
        from pulumi import automation

        if self._opened is None:
            state, home = self.home / "state", self.home / "pulumi"
            for folder in (state, home):
                folder.mkdir(parents=True, exist_ok=True)
            environment = {
                "PULUMI_BACKEND_URL": f"file://{state}",
                "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                **self._environment,
            }
            if "PULUMI_HOME" in os.environ:
                environment.setdefault("PULUMI_HOME", os.environ["PULUMI_HOME"])  # the plugins are installed there
            options = automation.LocalWorkspaceOptions(work_dir=str(home), env_vars=environment)
            self._opened = automation.create_or_select_stack(
                self.name, project_name="turnout", program=self._program, opts=options
            )
            for key, value in {"aws:region": self.region, **self._settings}.items():
                self._opened.set_config(key, automation.ConfigValue(value))
            (self.home / "check.json").write_text(json.dumps({"stack": self.name, "region": self.region}))
        return self._opened


def _indented(line: str) -> None:
    print(f"    {line.rstrip()}", file=sys.stderr)  # noqa: T201 - the engine's progress
