"""`turnout invoke --async`: sends an asynchronous request, shows its progress on one line, and prints its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.cli.commands.invoke import reported_unreachable
from turnout.cli.output import CommandError, changing_remark, counted, notify, progress
from turnout.wording import size_text

if TYPE_CHECKING:
    from turnout.client.client import PendingRequest
    from turnout.client.connection import ApiAnswer


def send_async(
    url: str, model: str, version: str, stage: str, body: bytes, key: str, output: Path | None
) -> ApiAnswer | None:
    """Send the request, wait, and return the answer; None if it was written to `output`."""
    from turnout.client.client import ApiError, Client

    try:
        with reported_unreachable(), Client(url, stage=stage, api_key=key) as client:
            headers = {"content-type": "application/json"}
            pending = client.submit_body(model, body, headers, version=version)
            notify(f"Accepted as {pending.location}.")
            await_end(pending)
            address = pending.answer_address()
            if output is None:
                return client.fetch(address, pending.answer_sha256)
            with progress(f"downloading to {output}", int(pending.description["answer"]["bytes"])) as advance:
                client.download(address, output, advanced_by(advance), sha256=pending.answer_sha256)
            notify(f"Wrote {output}, {size_text(output.stat().st_size)}.")
            return None
    except ApiError as error:
        raise CommandError(f"the request failed: {error}", code=1) from error


def advanced_by(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Return a callback that converts a total number of bytes into increments for a progress bar."""
    before = 0

    def arrived(done: int, _total: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return arrived


def await_end(pending: PendingRequest) -> None:
    """Wait until a request has ended, with its state and the time on a temporary line."""
    started = time.monotonic()
    with changing_remark() as change:
        pending.wait(progress=lambda state: change(f"{state}, {time.monotonic() - started:.0f} s ..."))
    seconds = time.monotonic() - started
    attempts = counted(pending.description["attempts"], "attempt")
    notify(f"The request is {pending.state} after {seconds:.1f} s and {attempts}.")
