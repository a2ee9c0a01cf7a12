"""Answers the page's calls about kept requests: list, show, send again, compare, save as an example."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from turnout.console.actions import WishError
from turnout.console.door import Door
from turnout.console.examples import parse_example_wish, save_example
from turnout.console.kept_requests import (
    MOST_ROWS,
    Filter,
    KeptRequest,
    KeptRequests,
    describe_body,
    describe_kept,
    describe_sources,
    find_kept,
    read_kept,
    redacted_inputs,
)
from turnout.console.replays import MOST_SENT, Comparing, compare, send_again
from turnout.console.subject import Subject

Query = Mapping[str, str]


class KeptAnswers:
    """Answers about the requests that a server kept, or that a stack's functions logged.

    Args:
        subject: the project and its server.
        door: decides about access. If other machines can open the console, only callers who may change something see
            requests.
    """

    def __init__(self, subject: Subject, door: Door) -> None:
        self._subject = subject
        self._door = door
        self.reading: Mapping[str, Callable[[Query], Any]] = {
            "/requests": self._list,
            "/request": self._show,
            "/resend": self._send_again,
        }

    def save(self, body: Any) -> dict[str, Any]:
        """Save a request as an example."""
        self._check_place()
        return {"sentence": save_example(self._subject, parse_example_wish(body))}

    def _list(self, query: Query) -> dict[str, Any]:
        self._check_place()
        chosen = filter_of(query)
        kept, wanted = self._read(chosen)
        return {
            "sources": describe_sources(self._subject, kept.logs),
            "rows": [describe_kept(kept_request) for kept_request in wanted[:MOST_ROWS]],
            "wanted": len(wanted),
            "kept": len(kept.requests),
        }

    def _show(self, query: Query) -> dict[str, Any]:
        return describe_body(self._subject, self._find(query))

    def _send_again(self, query: Query) -> dict[str, Any]:
        kept = self._find(query)
        stage, version = query.get("stage") or kept.sample.stage, query.get("version", "")
        self._check_names(stage, kept.sample.model, version)
        return send_again(self._subject, kept, stage, version)

    def compare(self, query: Query) -> Generator[dict[str, Any]]:
        """Yield the progress of a comparison of two versions, and its report at the end.

        Raises:
            WishError: a name is unknown, or requests are not shown here.
        """
        self._check_place()
        comparing = Comparing(*(query.get(name, "") for name in ("stage", "model", "canary", "baseline")))
        self._check_names(comparing.stage, comparing.model, comparing.canary, comparing.baseline)
        if not comparing.canary or comparing.canary == comparing.baseline:
            raise WishError(400, "Name two different versions: `canary` and `baseline`.")
        chosen = replace(filter_of(query, of="of_"), model=comparing.model)
        kept, wanted = self._read(chosen)
        whole = [kept_request for kept_request in wanted if not redacted_inputs(self._subject, kept_request)]
        notes = [kept.logs] if kept.logs else []
        if left_out := len(wanted) - len(whole):
            were = "request was" if left_out == 1 else "requests were"
            notes.append(f"{left_out:,} {were} kept redacted (`capture.redact`) and not sent again.")
        limit = query.get("limit", str(MOST_SENT))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 0 < int(limit) <= MOST_SENT):
            raise WishError(400, f"`limit` must be a number from 1 to {MOST_SENT:,}.")
        return compare(self._subject, whole, comparing, int(limit), " ".join(notes))

    def _read(self, chosen: Filter) -> tuple[KeptRequests, list[KeptRequest]]:
        """All kept requests, and those that match the filter."""
        kept = read_kept(self._subject, chosen)
        return kept, [kept_request for kept_request in kept.requests if chosen.wants(kept_request.sample)]

    def _find(self, query: Query) -> KeptRequest:
        self._check_place()
        kept = find_kept(self._subject, query.get("key", ""))
        if kept is None:
            raise WishError(404, "This request is no longer kept: newer ones replaced it.", "Refresh the page.")
        return kept

    def _check_place(self) -> None:
        """Reject callers who may not see requests."""
        if not self._door.shows_secrets:
            raise WishError(403, "Requests contain what callers sent.", "--console-write shows them to other machines.")

    def _check_names(self, stage: str, model: str, *versions: str) -> None:
        manifest = self._subject.project().manifest
        if stage not in {candidate.name for candidate in manifest.stages}:
            raise WishError(404, f"There is no stage {stage!r}.")
        known = {candidate.name for candidate in manifest.versions if candidate.model == model}
        for version in versions:
            if version and version not in known:
                raise WishError(404, f"{model} has no version {version!r}.")


def filter_of(query: Query, of: str = "") -> Filter:
    """The filter in a query; `of` is the prefix of each of its names.

    Raises:
        WishError: `slower_ms` is not a number.
    """
    stage, model, version, share, status, caller = (
        query.get(f"{of}{name}", "") for name in ("stage", "model", "version", "share", "status", "caller")
    )
    try:
        slower_ms = float(query.get(f"{of}slower_ms") or 0.0)
    except ValueError as error:
        raise WishError(400, "`slower_ms` must be a number of milliseconds.") from error
    return Filter(stage, model, version, share, status, slower_ms, caller)
