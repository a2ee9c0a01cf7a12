"""Hot reloads under load: no request fails, and each edit of models.yaml takes effect."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from soak.cases import make_tag
from soak.http_client import Client, HangError, LostError, post_json
from soak.project import serve_version, write_project
from soak.result import Findings, Result, Settings
from soak.server import PATIENCE_S, serving

CLIENTS = 4


def run(settings: Settings) -> Result:
    """Edit models.yaml repeatedly, each time as soon as the previous edit is served."""
    project = write_project(settings.folder / "project")
    serve_version(project, "v1")
    findings = Findings()
    with serving(settings.command, project, "--workers", "2", "--watch", "--preload", "--no-access-log") as server:
        started = time.monotonic()
        reloads = Reloads(server.port, findings)
        edits = asyncio.run(reloads.attack(project, started + settings.seconds))
        seconds = time.monotonic() - started
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    versions = ", ".join(f"{version} {count:,}" for version, count in sorted(reloads.versions.items()))
    seen = f"{edits} reloads; answers by version: {versions}; failed 0"
    if findings.lines():
        seen = f"{edits} reloads"
    return Result("reloads", reloads.versions.total(), seconds, seen, findings.lines())


class Reloads:
    """Clients that call echo all the time, and the answers that they got.

    Attributes:
        versions: answers by version.
    """

    def __init__(self, port: int, findings: Findings) -> None:
        self._port = port
        self._findings = findings
        self._is_stopping = False
        self.versions: Counter[str] = Counter()

    async def attack(self, project: object, deadline: float) -> int:
        """Edit until the deadline; return how many edits took effect."""
        from pathlib import Path

        assert isinstance(project, Path)
        clients = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]
        edits = 0
        while not edits or time.monotonic() < deadline:
            version = "v2" if edits % 2 == 0 else "v1"
            serve_version(project, version)
            if not await self._is_served(version):
                self._findings.add("an edit never took effect", f"echo {version}, edit {edits + 1}")
                break
            edits += 1
        self._is_stopping = True
        await asyncio.gather(*clients)
        return edits

    async def _is_served(self, version: str) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        before = self.versions[version]
        while self.versions[version] <= before:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    async def _ask(self, number: int) -> None:
        client = Client(self._port)
        count = 0
        while not self._is_stopping:
            count += 1
            tag = make_tag(number, count)
            body = b'{"id":"%b","inputs":{"x":[[%d,1,2,3]]}}' % (tag.encode(), count)
            try:
                (answer,) = await client.ask(post_json("/models/echo/inference", body))
            except (LostError, HangError) as error:
                self._findings.add("an unanswered request", str(error))
                continue
            if answer.status != 200:
                self._findings.add(f"status {answer.status} instead of 200", repr(answer.body[:200]))
            self.versions[answer.fields.get("x-turnout-version", "none")] += 1
        client.close()
