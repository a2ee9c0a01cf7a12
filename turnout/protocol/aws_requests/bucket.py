"""Operations on the bucket of requests, with boto3's client.

S3 reads return the latest write, and objects are compared and replaced atomically (`If-Match`, `If-None-Match`): the
requests' states need nothing else. Source: Amazon S3 User Guide, "How to prevent object overwrites with conditional
writes"; botocore, `PutObjectRequest.IfMatch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_MISSING = frozenset({"NoSuchKey", "404", "NoSuchUpload"})
_CHANGED = frozenset({"PreconditionFailed", "412"})
_CONFLICT = frozenset({"ConditionalRequestConflict", "409"})

CONFLICTS = 5
"""How often a write is repeated after a conflict with another one. Source: Amazon S3 API Reference, `PutObject`, on
409.
"""


class RequestBucket:
    """The bucket of one deployment's requests.

    Args:
        client: boto3's S3 client.
        name: name of the bucket.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's content and ETag; None if there is none."""
        try:
            answer = self.client.get_object(Bucket=self.name, Key=key)
        except Exception as error:
            if error_code(error) in _MISSING:
                return None
            raise
        return answer["Body"].read(), answer["ETag"]

    def head(self, key: str) -> Mapping[str, Any] | None:
        """Return an object's size and metadata; None if there is none."""
        try:
            entry: Mapping[str, Any] = self.client.head_object(Bucket=self.name, Key=key)
        except Exception as error:
            if error_code(error) in _MISSING:
                return None
            raise
        return entry

    def create(self, key: str, content: bytes) -> bool:
        """Write a new object. Return False if it exists already."""
        return bool(self._write(key, content, IfNoneMatch="*"))

    def replace(self, key: str, content: bytes, etag: str) -> str:
        """Replace an object and return its new ETag; empty if it was replaced or deleted meanwhile."""
        return self._write(key, content, IfMatch=etag)

    def _write(self, key: str, content: bytes, **condition: str) -> str:
        """Write an object under a condition. S3 answers 409 while another write to it is in progress."""
        for attempt in range(CONFLICTS, -1, -1):
            try:
                answer = self.client.put_object(
                    Bucket=self.name, Key=key, Body=content, ContentType="application/json", **condition
                )
            except Exception as error:
                if error_code(error) in _CONFLICT and attempt:
                    continue
                if error_code(error) in _CHANGED | _CONFLICT | _MISSING:
                    return ""
                raise
            return str(answer["ETag"])
        raise AssertionError("the loop returns or raises")

    def put(self, key: str, content: bytes, content_type: str = "", metadata: Mapping[str, str] | None = None) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=content, **_described(content_type, metadata or {}))

    def put_file(self, key: str, path: Path, content_type: str, metadata: Mapping[str, str]) -> None:
        """Write an object from a file, in parts if it is large."""
        self.client.upload_file(str(path), self.name, key, ExtraArgs=_described(content_type, metadata))

    def fetch(self, key: str, path: Path) -> None:
        """Write an object to a file."""
        self.client.download_file(self.name, key, str(path))

    def renew(self, key: str) -> bool:
        """Reset an object's age for the lifecycle rules. Return False if it does not exist."""
        try:
            self.client.copy_object(
                Bucket=self.name,
                Key=key,
                CopySource={"Bucket": self.name, "Key": key},
                MetadataDirective="REPLACE",
            )
        except Exception as error:
            if error_code(error) in _MISSING:
                return False
            raise
        return True

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.client.delete_object(Bucket=self.name, Key=key)

    def sign_get(self, key: str, seconds: float) -> str:
        """Return an address from which anyone can read the object for a while."""
        values = {"Bucket": self.name, "Key": key}
        return str(self.client.generate_presigned_url("get_object", Params=values, ExpiresIn=max(1, int(seconds))))

    def list_keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield each object's key and time of writing."""
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["LastModified"].timestamp()

    def begin_parts(self, key: str) -> str:
        """Start an upload in parts, and return its identifier."""
        return str(self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"])

    def sign_parts(self, key: str, upload: str, sizes: Sequence[int], seconds: float) -> list[str]:
        """Return the addresses for the parts. The size is signed: S3 rejects a part with another `Content-Length`."""
        return [
            str(
                self.client.generate_presigned_url(
                    "upload_part",
                    Params={
                        "Bucket": self.name,
                        "Key": key,
                        "UploadId": upload,
                        "PartNumber": number,
                        "ContentLength": size,
                    },
                    ExpiresIn=int(seconds),
                )
            )
            for number, size in enumerate(sizes, 1)
        ]

    def list_parts(self, key: str, upload: str) -> dict[int, tuple[int, str]] | None:
        """Return each uploaded part's number, from 0 -> its size and ETag; None if there is no such upload."""
        parts: dict[int, tuple[int, str]] = {}
        try:
            for page in self.client.get_paginator("list_parts").paginate(Bucket=self.name, Key=key, UploadId=upload):
                for part in page.get("Parts", ()):
                    parts[part["PartNumber"] - 1] = (part["Size"], part["ETag"])
        except Exception as error:
            if error_code(error) in _MISSING:
                return None
            raise
        return parts

    def join_parts(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object from its parts."""
        parts = [{"PartNumber": number + 1, "ETag": etag} for number, etag in enumerate(etags)]
        self.client.complete_multipart_upload(
            Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
        )


def error_code(error: Exception) -> str:
    """Return the code of a ClientError; empty for other exceptions. It does not import botocore."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _described(content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {**({"ContentType": content_type} if content_type else {}), "Metadata": dict(metadata)}
