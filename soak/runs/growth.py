"""Many small requests, no two alike: the server's memory does not grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from soak.cases import make_tag
from soak.http_client import JSON, Client, HangError, LostError, post_json, render
from soak.project import write_project
from soak.result import Findings, Result, Settings
from soak.server import Server, serving

CLIENTS = 4
BATCH = 32
WARM_UP_SHARE = 0.3
"""Share of the run's time for the warm-up, in which caches fill and allocators reserve memory."""

BOUND_MB = 24.0
"""Highest growth after the warm-up, for all processes. Hundreds of thousands of requests that each leave 100 bytes
exceed it.
"""


def run(settings: Settings) -> Result:
    """Measure the memory after a warm-up and at the end of the run's time."""
    project = write_project(settings.folder / "project")
    findings = Findings()
    with serving(settings.command, project, "--workers", "2", "--preload", "--no-access-log") as server:
        started = time.monotonic()
        warm, sent_before = asyncio.run(_ask(server, 0, started + settings.seconds * WARM_UP_SHARE, findings))
        grown, sent = asyncio.run(_ask(server, sent_before, started + settings.seconds, findings))
        seconds = time.monotonic() - started
        for line in server.alarms():
            findings.add("the server printed an alarm", line[:300])
    growth = grown - warm
    if growth > BOUND_MB:
        findings.add(f"memory grew by {growth:.1f} MB, the bound is {BOUND_MB:.0f} MB")
    seen = f"memory {warm:.0f} MB after {sent_before:,}, {growth:+.1f} MB at the end (bound {BOUND_MB:.0f})"
    return Result("growth", sent, seconds, seen, findings.lines())


async def _ask(server: Server, first: int, deadline: float, findings: Findings) -> tuple[float, int]:
    """Send requests until the deadline; return the memory then, and the number of the last request."""
    counts = await asyncio.gather(
        *(_client(server.port, number, first, deadline, findings) for number in range(CLIENTS))
    )
    return server.memory_mb(), first + sum(counts)


async def _client(port: int, number: int, first: int, deadline: float, findings: Findings) -> int:
    client = Client(port)
    sent = 0
    batches = _batches(number, first)
    while time.monotonic() < deadline or not sent:
        batch, statuses = next(batches)
        try:
            answers = await client.ask(*batch)
        except (LostError, HangError) as error:
            findings.add("an unanswered request", str(error))
            continue
        sent += len(batch)
        for answer, status in zip(answers, statuses, strict=True):
            if answer.status != status:
                findings.add(f"status {answer.status} instead of {status}", repr(answer.body[:200]))
        if sent % (40 * BATCH) == 0:
            client.close()  # connections are opened and closed, too
    client.close()
    return sent


def _batches(client: int, first: int) -> Iterator[tuple[list[bytes], list[int]]]:
    """Yield batches of requests whose paths, headers, ids and values were never sent before."""
    count = first
    while True:
        requests, statuses = [], []
        for _ in range(BATCH):
            count += 1
            tag = make_tag(client, count)
            kind = count % 8
            if kind == 0:
                requests.append(render("GET", f"/models/{tag}", ((f"X-{tag}", tag),)))
                statuses.append(404)
            elif kind == 1:
                requests.append(post_json("/models/echo/v2/inference", b'{"inputs":{"%b":[[1]]}}' % tag.encode()))
                statuses.append(400)
            elif kind == 2:
                requests.append(render("GET", f"/{tag}/x?{tag}={tag}", ((f"X-{tag}", tag),)))
                statuses.append(403)
            elif kind == 3:
                requests.append(post_json(f"/v2/models/text/infer?{tag}", _text(tag), (f"X-{tag}", tag)))
                statuses.append(200)
            else:
                body = b'{"id":"%b","inputs":{"x":[[%d,1,2,3]]}}' % (tag.encode(), count)
                headers = (JSON, ("User-Agent", tag), ("X-Amzn-Trace-Id", f"Root={tag}"))
                requests.append(render("POST", "/models/echo/inference", headers, body))
                statuses.append(200)
        yield requests, statuses


def _text(tag: str) -> bytes:
    return b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["%b"]}]}' % tag.encode()
