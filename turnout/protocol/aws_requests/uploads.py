"""Uploads of large bodies: announced, sent to S3 in parts, and used as the body of one request."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace

from turnout.protocol.aws_requests.record import BodyObject, body_key
from turnout.protocol.aws_requests.settings import UPLOADS
from turnout.protocol.aws_requests.store import RequestStore
from turnout.protocol.requests.refusals import Refusal
from turnout.protocol.requests.uploads import PART_BYTES, UPLOAD_S, part_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredUpload:
    """An announced body.

    Args:
        id: its identifier.
        stage: stage of the announcement.
        caller: caller who announced it.
        size: size of the body.
        sha256: digest of the body, or empty.
        parts: S3's identifier of the multipart upload.
        expires: time after which it can no longer be used.
        used_by: the request that uses it as its body, or empty.
    """

    id: str
    stage: str
    caller: str
    size: int
    sha256: str
    parts: str
    expires: float
    used_by: str = ""

    @property
    def key(self) -> str:
        """Return the key of its object."""
        return upload_key(self.stage, self.id)

    @property
    def body(self) -> BodyObject:
        """Return the request's body made from it."""
        return BodyObject(body_key(self.stage, self.id), self.size, self.sha256)

    def to_json(self) -> bytes:
        """Return a JSON object for `from_json`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> StoredUpload:
        """Return the upload that `to_json` wrote."""
        return cls(**json.loads(text))


def upload_key(stage: str, identifier: str) -> str:
    """Return the key of an upload's object."""
    return f"{UPLOADS}{stage}/{identifier}.json"


def announce(store: RequestStore, stage: str, caller: str, size: int, sha256: str) -> tuple[StoredUpload, list[str]]:
    """Store an announced body, and return it with the addresses of its parts."""
    identifier = uuid.uuid4().hex
    key = body_key(stage, identifier)
    parts, expires = store.bucket.begin_parts(key), store.clock() + UPLOAD_S
    upload = StoredUpload(
        id=identifier, stage=stage, caller=caller, size=size, sha256=sha256, parts=parts, expires=expires
    )
    store.bucket.put(upload.key, upload.to_json(), "application/json")
    return upload, store.bucket.sign_parts(key, parts, part_sizes(size), UPLOAD_S)


def take(store: RequestStore, stage: str, caller: str, identifier: str, request: str) -> BodyObject:
    """Use an upload as the body of a request.

    Raises:
        Refusal: UNKNOWN_UPLOAD or UPLOAD_INCOMPLETE.
    """
    unknown = Refusal("UNKNOWN_UPLOAD", f"there is no upload {identifier[:50]}: it expired, or has been used")
    entry = store.bucket.read(upload_key(stage, identifier)) if identifier.isalnum() else None
    if entry is None:
        raise unknown
    upload = StoredUpload.from_json(entry[0])
    if upload.caller != caller or upload.used_by not in {"", request} or upload.expires <= store.clock():
        raise unknown
    arrived = store.bucket.list_parts(upload.body.key, upload.parts)
    if arrived is None:
        if upload.used_by == request and store.bucket.head(upload.body.key) is not None:
            return upload.body  # an earlier try of the same request joined it
        raise unknown
    sizes = part_sizes(upload.size, PART_BYTES)
    for number, size in enumerate(sizes):
        if arrived.get(number, (-1, ""))[0] != size:
            message = f"part {number} of 0-{len(sizes) - 1} of the upload has not arrived: PUT it to its address first"
            raise Refusal("UPLOAD_INCOMPLETE", message, part=number)
    if not upload.used_by and not store.bucket.replace(
        upload.key, replace(upload, used_by=request).to_json(), entry[1]
    ):
        raise unknown
    store.bucket.join_parts(upload.body.key, upload.parts, [arrived[number][1] for number in range(len(sizes))])
    return upload.body
