"""Distinguishes requests that this server's own commands send again from callers' requests."""

from __future__ import annotations

from hmac import compare_digest


def is_replay_token(sent: str, token: str) -> bool:
    """Whether a header's value is the token; compared in constant time."""
    return bool(token) and compare_digest(sent.encode(errors="replace"), token.encode())
