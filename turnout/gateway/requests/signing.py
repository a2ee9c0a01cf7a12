"""Signed addresses of bodies and answers, which work without an API key."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

SECRET_FILE = "secret"  # noqa: S105 - the name of a file


def load_secret(folder: Path) -> str:
    """Return the secret of this project, and create it if needed. Several processes may do so at the same time."""
    path = folder / SECRET_FILE
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f".{SECRET_FILE}.{secrets.token_hex(8)}"
    file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, f"{secrets.token_hex(32)}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    with contextlib.suppress(FileExistsError):
        os.link(made, path)  # the first file wins
    made.unlink()
    return path.read_text().strip()


def sign_address(secret: str, method: str, path: str, expires: float, size: int) -> str:
    """Return the path with a query that allows this method on it, for a body or an answer of this size."""
    fields = {"expires": int(expires), "bytes": size}
    return f"{path}?{urlencode({**fields, 'signature': _sign(secret, method, path, int(expires), size)})}"


def check_address(secret: str, method: str, path: str, query: Mapping[str, str], now: float) -> int | None:
    """Return the size that a signed address allows; None if the address is invalid or has expired."""
    expires, size = query.get("expires", ""), query.get("bytes", "")
    for text in (expires, size):
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            return None
    wanted = _sign(secret, method, path, int(expires), int(size))
    if not hmac.compare_digest(wanted.encode(), query.get("signature", "").encode()) or int(expires) <= now:
        return None
    return int(size)


def _sign(secret: str, method: str, path: str, expires: int, size: int) -> str:
    message = f"{method}\n{path}\n{expires}\n{size}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
