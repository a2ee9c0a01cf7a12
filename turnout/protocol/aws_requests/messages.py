"""The messages in the queue. A message contains only a request's identifier; the rest is in the request's object.

So a message that is delivered twice or late has no effect unless the request's state allows it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LONGEST_DELAY_S = 900
"""Source: Amazon SQS API Reference, `SendMessage.DelaySeconds`."""

LONGEST_HIDDEN_S = 43_200

READ_S = 300
"""How long a dead letter is hidden while the others are read."""


@dataclass(frozen=True, slots=True)
class RequestMessage:
    """Run a request, or send its webhook, with the number of the attempt.

    Args:
        stage: stage of the request.
        id: identifier of the request.
        callback: number of the webhook's attempt, from 1; 0 runs the request.
    """

    stage: str
    id: str
    callback: int = 0

    def to_json(self) -> str:
        """Return a JSON object for `from_json`."""
        value: dict[str, Any] = {"stage": self.stage, "id": self.id}
        return json.dumps({**value, "callback": self.callback} if self.callback else value)

    @classmethod
    def from_json(cls, text: str) -> RequestMessage:
        """Return the message that `to_json` wrote.

        Raises:
            ValueError: it is not a message.
        """
        value = json.loads(text)
        if not isinstance(value, dict) or not {"stage", "id"} <= value.keys():
            raise ValueError("expected an object with `stage` and `id`")
        return cls(str(value["stage"]), str(value["id"]), int(value.get("callback", 0)))


class Queues:
    """The queue and its dead-letter queue.

    Args:
        client: boto3's SQS client.
        address: address of the queue.
        dead_address: address of the dead-letter queue; empty if it is not used.
    """

    def __init__(self, client: Any, address: str, dead_address: str = "") -> None:
        self.client = client
        self.address = address
        self.dead_address = dead_address

    def send(self, message: RequestMessage, *, group: str, delay_s: float = 0.0) -> None:
        """Send a message.

        Args:
            message: the message to send.
            group: the function that runs the request. SQS serves the groups of a queue fairly, so many requests for one
                version do not delay the others. Source: Amazon SQS API Reference, `MessageGroupId`.
            delay_s: delay of its delivery.
        """
        self.client.send_message(
            QueueUrl=self.address,
            MessageBody=message.to_json(),
            MessageGroupId=group,
            DelaySeconds=min(LONGEST_DELAY_S, max(0, math.ceil(delay_s))),
        )

    def hide(self, receipt: str, seconds: float) -> None:
        """Hide a message that is being processed, for this many seconds from now."""
        self.client.change_message_visibility(
            QueueUrl=self.address,
            ReceiptHandle=receipt,
            VisibilityTimeout=min(LONGEST_HIDDEN_S, max(0, math.ceil(seconds))),
        )

    def bury(self, message: RequestMessage) -> None:
        """Move a message to the dead-letter queue."""
        self.client.send_message(QueueUrl=self.dead_address, MessageBody=message.to_json())

    def exhume(self, is_wanted: Callable[[RequestMessage], bool], most_empty: int = 3) -> int:
        """Delete messages from the dead-letter queue, and return how many there were.

        Args:
            is_wanted: chooses the messages to delete. Others become visible again at the end.
            most_empty: number of empty answers after which the queue counts as read.
        """
        deleted, empty, others = 0, 0, []
        while empty < most_empty:
            received = self.client.receive_message(
                QueueUrl=self.dead_address, MaxNumberOfMessages=10, VisibilityTimeout=READ_S
            ).get("Messages", ())
            empty = 0 if received else empty + 1
            for entry in received:
                handle = entry["ReceiptHandle"]
                if _is_wanted(entry["Body"], is_wanted):
                    self.client.delete_message(QueueUrl=self.dead_address, ReceiptHandle=handle)
                    deleted += 1
                else:
                    others.append(handle)
        for handle in others:
            self.client.change_message_visibility(QueueUrl=self.dead_address, ReceiptHandle=handle, VisibilityTimeout=0)
        return deleted


def _is_wanted(body: str, is_wanted: Callable[[RequestMessage], bool]) -> bool:
    try:
        return is_wanted(RequestMessage.from_json(body))
    except ValueError:
        return False
