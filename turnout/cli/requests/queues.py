"""The queue of `turnout requests`: the one on this machine, or a stack's on AWS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from turnout.cli.output import CommandError
from turnout.protocol.aws_requests.messages import RequestMessage

if TYPE_CHECKING:
    import sqlite3

    from turnout.protocol.aws_requests.record import Record
    from turnout.protocol.aws_requests.store import RequestStore

Described = dict[str, Any]
"""A request as the API describes it."""


class OpenQueue(Protocol):
    """A queue. `cancel` and `redrive` raise a StepError if the request's state does not allow it."""

    def list_requests(self, stages: Sequence[str], wanted: Sequence[str], most: int) -> list[Described]:
        """List requests, newest first."""
        ...

    def find(self, identifier: str, stage: str) -> list[Described]:
        """Return the requests of this identifier, of one stage or of all."""
        ...

    def cancel(self, stage: str, identifier: str) -> object:
        """Cancel a request."""
        ...

    def redrive(self, stage: str, identifier: str) -> object:
        """Queue a request again. None if that is no longer possible."""
        ...

    def revive(self) -> int:
        """Make waiting requests run whose messages are lost, and return their number."""
        ...


@contextmanager
def opened_queue(manifest: Path, stack: str) -> Iterator[OpenQueue]:
    """Open the queue of this machine or of a stack. Fails if there is none, so listing does not create one."""
    if stack:
        with reporting_aws(stack):
            queue = StackQueue(open_stack(manifest, stack))
            try:
                yield queue
            finally:
                queue.close()
        return
    from turnout.gateway.requests.database import FILE_NAME, DatabaseError, connect

    folder = queue_folder(manifest)
    if not (folder / FILE_NAME).exists():
        hint = "docs/async.md describes how to send one. Pass --stack for those on AWS."
        raise CommandError("this project has no asynchronous requests.", hint)
    try:
        connection = connect(folder)
    except DatabaseError as error:
        raise CommandError(f"{error}.", code=1) from error
    with closing(connection):
        yield LocalQueue(connection)


def queue_folder(manifest: Path) -> Path:
    """Return the folder of a project's queue."""
    from turnout.gateway.requests.queue import FOLDER
    from turnout.project.manifest_file import manifest_path

    path = manifest_path(manifest)
    if not path.is_file():
        raise CommandError(f"{path}: no such file.", "Run it in the project's folder, or pass --manifest.")
    return path.parent / ".turnout" / FOLDER


def open_stack(manifest: Path, stack: str) -> RequestStore:
    """Return the requests of a stack, in boto3's account and region."""
    from turnout.aws_client import make_aws_client
    from turnout.cli.options import read_manifest
    from turnout.protocol.aws_requests.bucket import RequestBucket
    from turnout.protocol.aws_requests.messages import Queues
    from turnout.protocol.aws_requests.settings import bucket_name, dead_letters_name, requests_name
    from turnout.protocol.aws_requests.store import RequestStore
    from turnout.protocol.naming import function_prefix

    prefix = function_prefix(read_manifest(manifest).platform, stack)
    region = os.environ.get("AWS_REGION")
    sqs = make_aws_client("sqs", region_name=region)
    account = make_aws_client("sts", region_name=region).get_caller_identity()["Account"]
    bucket = bucket_name(prefix, account, sqs.meta.region_name)
    queues = [sqs.get_queue_url(QueueName=name(prefix))["QueueUrl"] for name in (requests_name, dead_letters_name)]
    return RequestStore(RequestBucket(make_aws_client("s3", region_name=region), bucket), Queues(sqs, *queues))


@contextmanager
def reporting_aws(stack: str) -> Iterator[None]:
    """Report AWS's errors as errors of the command."""
    from turnout.aws_client import check_boto3
    from turnout.extras import MissingPackageError

    try:
        check_boto3("the requests of a stack")
    except MissingPackageError as error:
        raise CommandError(f"{error}.", error.hint) from None
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if "NonExistentQueue" in code or code == "QueueDoesNotExist":
            hint = "Check the stack's name and the region. A stack has a queue if a stage has `async`."
            raise CommandError(f"the stack {stack} has no asynchronous requests.", hint) from None
        raise CommandError(f"AWS refused: {error}.", code=1) from None
    except BotoCoreError as error:
        raise CommandError(f"AWS cannot be reached: {str(error).rstrip('.')}.", code=1) from None


class LocalQueue:
    """The queue of `turnout serve`, in its database.

    Args:
        connection: to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def list_requests(self, stages: Sequence[str], wanted: Sequence[str], most: int) -> list[Described]:
        """See `OpenQueue`."""
        from turnout.gateway.requests import store
        from turnout.protocol.requests.description import describe

        stored = store.list_requests(self._connection, stages=stages, wanted=wanted, most=most)
        return [describe(request.progress, request.description) for request in stored]

    def find(self, identifier: str, stage: str) -> list[Described]:
        """See `OpenQueue`."""
        from turnout.gateway.requests import store
        from turnout.protocol.requests.description import describe

        stages = (stage,) if stage else store.stages_of(self._connection, identifier)
        stored = (store.find(self._connection, each, identifier) for each in stages)
        return [describe(request.progress, request.description) for request in stored if request is not None]

    def cancel(self, stage: str, identifier: str) -> object:
        """See `OpenQueue`."""
        from turnout.gateway.requests import store

        return self._change(store.cancel, stage, identifier)

    def redrive(self, stage: str, identifier: str) -> object:
        """See `OpenQueue`."""
        from turnout.gateway.requests import store

        return self._change(store.redrive, stage, identifier)

    def revive(self) -> int:
        """See `OpenQueue`. The queue on this machine has no messages."""
        return 0

    def _change(
        self, step: Callable[[sqlite3.Connection, str, str, float], object], stage: str, identifier: str
    ) -> object:
        from turnout.gateway.requests.database import transaction

        with transaction(self._connection):
            return step(self._connection, stage, identifier, time.time())


class StackQueue:
    """The queue of a stack.

    Args:
        store: its requests.
    """

    def __init__(self, store: RequestStore) -> None:
        self._store = store
        self._redriven: set[RequestMessage] = set()

    def list_requests(self, stages: Sequence[str], wanted: Sequence[str], most: int) -> list[Described]:
        """See `OpenQueue`."""
        records = self._store.list_requests(stages=stages, wanted=wanted, most=most)
        return [_describe(record) for record in records]

    def find(self, identifier: str, stage: str) -> list[Described]:
        """See `OpenQueue`."""
        stages = [stage] if stage else sorted(self._store.settings.stages)
        records = [self._store.find(each, identifier) for each in stages]
        return [_describe(record) for record in records if record]

    def cancel(self, stage: str, identifier: str) -> object:
        """See `OpenQueue`."""
        return self._store.cancel(stage, identifier)

    def redrive(self, stage: str, identifier: str) -> object:
        """See `OpenQueue`."""
        redriven = self._store.redrive(stage, identifier)
        if redriven is not None:
            self._redriven.add(RequestMessage(stage, identifier))
        return redriven

    def revive(self) -> int:
        """See `OpenQueue`."""
        return self._store.revive()

    def close(self) -> None:
        """Delete the dead letters of all requests that were queued again, reading their queue once."""
        if self._redriven:
            self._store.queues.exhume(self._redriven.__contains__)


def _describe(record: Record) -> Described:
    from turnout.protocol.requests.description import api_answer_path

    return record.describe(api_answer_path(f"/{record.stage}", record.id))
