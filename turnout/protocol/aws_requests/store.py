"""Operations on stored requests: read an object, apply a step of `states`, replace it if it has not changed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from turnout.protocol.aws_requests.bucket import RequestBucket
from turnout.protocol.aws_requests.messages import Queues, RequestMessage
from turnout.protocol.aws_requests.record import AnswerObject, Record, state_key
from turnout.protocol.aws_requests.settings import (
    FRESH_S,
    GRACE_S,
    MOST_RUN_S,
    SECRET_KEY,
    SETTINGS_KEY,
    STATES,
    VISIBILITY_S,
    RequestSettings,
)
from turnout.protocol.requests import states
from turnout.protocol.requests.states import RequestState

ATTEMPTS = 20
"""How often a step is tried if other processes change the request meanwhile."""

LOST_S = VISIBILITY_S + MOST_RUN_S + GRACE_S
"""After this time, no message of a running request can be delivered again."""

EXPIRED = {"error": "the request waited longer than its time to live", "code": "EXPIRED", "details": {}}


class ContentionError(Exception):
    """Other processes changed the request during each attempt."""


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A stored request, and the ETag with which it was read."""

    record: Record
    etag: str


class RequestStore:
    """The requests of one deployment.

    Args:
        bucket: bucket of the requests.
        queues: queues of their messages.
        clock: seconds since 1970.
    """

    def __init__(self, bucket: RequestBucket, queues: Queues, clock: Callable[[], float] = time.time) -> None:
        self.bucket = bucket
        self.queues = queues
        self.clock = clock
        self._settings = RequestSettings()
        self._read_at = float("-inf")

    @property
    def settings(self) -> RequestSettings:
        """Return the deployment's settings, read at most once a minute."""
        now = self.clock()
        if not 0 <= now - self._read_at < FRESH_S:
            entry = self.bucket.read(SETTINGS_KEY)
            self._settings = RequestSettings() if entry is None else RequestSettings.from_json(entry[0])
            self._read_at = now
        return self._settings

    def load_secret(self) -> str:
        """Return the secret of this deployment.

        The first call makes it; several processes may do so at the same time.
        """
        entry = self.bucket.read(SECRET_KEY)
        if entry is None:
            self.bucket.create(SECRET_KEY, secrets.token_hex(32).encode())
            entry = self.bucket.read(SECRET_KEY)
            assert entry is not None
        return entry[0].decode()

    def read(self, stage: str, identifier: str) -> ReadRecord | None:
        """Return a request as stored."""
        entry = self.bucket.read(state_key(stage, identifier))
        return None if entry is None else ReadRecord(Record.from_json(entry[0]), entry[1])

    def find(self, stage: str, identifier: str) -> Record | None:
        """Return a request in its present state: one that waited too long has expired. None if it does not exist."""
        entry = self.read(stage, identifier)
        if entry is None:
            return None
        settled = self._settle(entry)
        return None if settled is None or states.is_forgotten(settled.progress, self.clock()) else settled

    def create(self, record: Record) -> bool:
        """Store a new request and send its message. Return False if its identifier is taken."""
        if not self.bucket.create(record.key, record.to_json()):
            entry = self.read(record.stage, record.id)
            if entry is None or not states.is_forgotten(entry.record.progress, self.clock()):
                return False
            if not self.bucket.replace(record.key, record.to_json(), entry.etag):
                return False
        self.send(record)
        return True

    def send(self, record: Record, delay_s: float = 0.0) -> None:
        """Send a request's message, so that it runs."""
        self.queues.send(RequestMessage(record.stage, record.id), group=record.function, delay_s=delay_s)

    def write(self, entry: ReadRecord, record: Record) -> ReadRecord | None:
        """Replace a request. Return None if another process has changed it."""
        etag = self.bucket.replace(record.key, record.to_json(), entry.etag)
        return ReadRecord(record, etag) if etag else None

    def change(self, stage: str, identifier: str, step: Callable[[Record], Record]) -> Record | None:
        """Apply a step to a request; retry if another process changes it meanwhile. Return None if it does not exist.

        Raises:
            StepError: its state does not allow the step.
            ContentionError: others changed it during each attempt.
        """
        for _ in range(ATTEMPTS):
            entry = self.read(stage, identifier)
            if entry is None:
                return None
            changed = step(entry.record)
            if changed == entry.record or self.bucket.replace(changed.key, changed.to_json(), entry.etag):
                return changed
        raise ContentionError(f"{stage} {identifier}: changed by others {ATTEMPTS} times")

    def cancel(self, stage: str, identifier: str) -> Record | None:
        """Cancel a request that has not started. Return None if it does not exist.

        Raises:
            StepError: it has started or ended.
        """
        now = self.clock()

        def step(record: Record) -> Record:
            return replace(record, progress=states.cancel(record.progress, now))

        return None if self.find(stage, identifier) is None else self.change(stage, identifier, step)

    def redrive(self, stage: str, identifier: str) -> Record | None:
        """Queue a request again that ended without an answer. Return None if it or its body no longer exists.

        Its dead letter remains: `Queues.exhume` deletes those of many requests at once.

        Raises:
            StepError: it has not ended, or has an answer.
        """
        now = self.clock()
        record = self.find(stage, identifier)
        if record is None:
            return None
        states.redrive(record.progress, now)
        if record.body.key and not self.bucket.renew(record.body.key):
            return None

        def step(record: Record) -> Record:
            progress = states.redrive(record.progress, now)
            return replace(record, progress=progress, answer=AnswerObject(), failure={}, callback_state="")

        changed = self.change(stage, identifier, step)
        if changed is not None:
            self.send(changed)
        return changed

    def revive(self) -> int:
        """Run waiting requests whose messages SQS moved to the dead letters, and return their number.

        SQS does so if Lambda refuses to start the worker many times, because the account's concurrency is used up.
        """

        def is_waiting(message: RequestMessage) -> bool:
            record = self.find(message.stage, message.id)
            if record is None or record.progress.state is not RequestState.QUEUED:
                return False
            self.send(record)
            return True

        return self.queues.exhume(is_waiting)

    def list_requests(
        self, *, stages: Collection[str] = (), wanted: Collection[str] = (), most: int = 1000
    ) -> list[Record]:
        """List requests of the given stages and states, or of all, the latest change first."""
        prefixes = [f"{STATES}{stage}/" for stage in stages] or [STATES]
        keys = sorted(
            (key for prefix in prefixes for key in self.bucket.list_keys(prefix)), key=lambda entry: -entry[1]
        )
        records: list[Record] = []
        for key, _ in keys:
            if len(records) == most:
                break
            stage, _, name = key.removeprefix(STATES).partition("/")
            record = self.find(stage, name.removesuffix(".json"))
            if record is not None and (not wanted or record.progress.state in wanted):
                records.append(record)
        return records

    def _settle(self, entry: ReadRecord) -> Record | None:
        """End a request that nothing else will end: it waited too long, or its messages are lost."""
        record, now = entry.record, self.clock()
        progress = record.progress
        if progress.state is RequestState.QUEUED and now >= progress.expires:
            ended = end(replace(record, failure=record.failure or EXPIRED), states.expire(progress, now))
        elif progress.state is RequestState.RUNNING and now >= (progress.begun or 0) + LOST_S:
            failure = describe_lost(progress.attempts)
            ended = end(replace(record, failure=failure), states.fail(progress, now, is_final=True))
        else:
            return record
        if self.write(entry, ended) is None:
            again = self.read(record.stage, record.id)
            return None if again is None else again.record
        self.call_back(ended)
        return ended

    def call_back(self, record: Record) -> None:
        """Queue the webhook of a request that has just ended."""
        if record.callback_state == "waiting":
            self.queues.send(RequestMessage(record.stage, record.id, callback=1), group=record.function)


def end(record: Record, progress: states.Progress) -> Record:
    """Return the record of a request with this progress; if it has ended and has a webhook, that is now waiting."""
    calls_back = record.callback and progress.has_ended and progress.state is not RequestState.CANCELED
    return replace(record, progress=progress, callback_state="waiting" if calls_back else record.callback_state)


def describe_lost(attempts: int) -> dict[str, object]:
    """Return the failure of a request whose worker ended."""
    times = "1 time" if attempts == 1 else f"{attempts} times"
    message = f"the process that ran the request ended, {times}"
    return {"error": message, "code": "PROCESS_ENDED", "details": {"attempts": attempts}}
