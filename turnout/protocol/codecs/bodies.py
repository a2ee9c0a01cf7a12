"""Reads a request's body by its headers: media type, content encoding, and the length of the JSON.

`Inference-Header-Content-Length` makes the body binary, whether its media type is octet-stream, JSON or missing
(tritonclient sends none). The length refers to the decompressed body.
"""

from __future__ import annotations

from collections.abc import Mapping

from turnout.protocol.aws.events import LENGTH_HEADER
from turnout.protocol.codecs.content_encoding import inflate
from turnout.protocol.errors import RequestError
from turnout.protocol.tensors.binary_tensors import BinaryPart

# The last one is the default of `curl -d`; a body that is really a form is then invalid JSON, and a 400.
_JSON_TYPES = frozenset(
    {"", "application/json", "text/json", "application/x-json", "application/x-www-form-urlencoded"}
)
_BINARY_TYPE = "application/octet-stream"


def read_body(headers: Mapping[str, str], body: bytes) -> tuple[bytes, BinaryPart | None]:
    """Return the JSON text and the binary part after it, or None.

    Raises:
        RequestError: UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_ENCODING, PAYLOAD_TOO_LARGE, INVALID_BINARY, INVALID_REQUEST.
    """
    content_type = headers.get("content-type", "")
    is_binary = False
    if content_type != "application/json" and content_type:
        is_binary = _check_media_type(content_type)
    if "content-encoding" in headers:
        body = inflate(headers["content-encoding"], body)
    length = headers.get(LENGTH_HEADER)
    if length is None:
        if is_binary:
            message = (
                f"{_BINARY_TYPE} needs the header Inference-Header-Content-Length: expected the length of the JSON "
                "in front of the tensors, got none"
            )
            raise RequestError("INVALID_BINARY", message, expected="Inference-Header-Content-Length", got=None)
        return body if type(body) is bytes else bytes(body), None  # JSON from a mapped file
    # The text is checked before conversion: int() accepts signs, underscores and digits of other scripts.
    if not (length.isascii() and length.isdigit() and len(length) < 20 and 0 < int(length) <= len(body)):
        expected = f"1 to {len(body)}, the body's length"
        message = f"Inference-Header-Content-Length: expected {expected}, got {length[:40]}"
        raise RequestError("INVALID_BINARY", message, expected=expected, got=length[:40])
    end = int(length)
    return body[:end], BinaryPart(body, end)


def _check_media_type(content_type: str) -> bool:
    """Whether the media type is the binary one; UNSUPPORTED_MEDIA_TYPE unless it is that or JSON."""
    essence, _, parameters = content_type.partition(";")
    essence = essence.strip().lower()
    charset = [
        value.strip().strip('"').lower()
        for name, _, value in (parameter.partition("=") for parameter in parameters.split(";"))
        if name.strip().lower() == "charset"
    ]
    if set(charset) <= {"utf-8", "utf8", "us-ascii"}:
        if essence == _BINARY_TYPE:
            return True
        if essence in _JSON_TYPES or (essence.startswith("application/") and essence.endswith("+json")):
            return False
    expected = "application/json (UTF-8), or application/octet-stream with Inference-Header-Content-Length"
    got = content_type[:80]
    message = f"content type: expected {expected}, got {got}"
    raise RequestError("UNSUPPORTED_MEDIA_TYPE", message, expected=expected, got=got)
