"""Chooses the version that answers a call by weights, a caller's key or a random number; decides about failed calls.

Pure: equal arguments give equal versions on every machine.

Keys are assigned by weighted rendezvous hashing: each version gets a score for the key, from a hash of both, and the
highest score wins. A key moves from one version to another only if the other's weight has grown relative to the first
one's. So with two versions, or if one version's weight changes relative to all others, no more keys move than
necessary. Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005), logarithmic method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

ASYNCHRONOUS = "asynchronous"
"""Key of an event's part about an asynchronous run (`turnout.protocol.requests.runs`)."""

MOST_HOPS = 4
"""Most routers in a chain of calls: the general router and the model's own are two."""


class RouteError(ValueError):
    """A route variable is not readable; the message quotes it."""


def spell_weight(percent: float) -> str:
    """Return `90` or `12.5`, without an exponent, with exactly the number's digits."""
    from decimal import Decimal  # imported late: only the plan calls this; routers read what it wrote

    return str(int(percent)) if percent == int(percent) else format(Decimal(repr(percent)), "f")


def spell_route(weights: Mapping[str, float]) -> str:
    """Return `v1.90,v2.10`: a version contains no dot, so the first one separates it from its percentage."""
    return ",".join(f"{version}.{spell_weight(percent)}" for version, percent in weights.items())


def parse_route(text: str) -> dict[str, float]:
    """Return the weights in a text of `spell_route`, except those that are zero.

    Raises:
        RouteError: the text is invalid, contains a version twice, or has no weight above zero.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        version, _, spelled = part.partition(".")
        try:
            weight = float(spelled)
        except ValueError:
            weight = math.nan
        if not version or version in weights or not weight >= 0:
            raise RouteError(f"expected versions with their weights, v1.90,v2.10, got {text[:200]!r}")
        weights[version] = weight
    if not 0 < sum(weights.values()) < math.inf:
        raise RouteError(f"expected weights whose sum is a finite number above 0, got {text[:200]!r}")
    return {version: weight for version, weight in weights.items() if weight}


def choose_for_key(weights: Mapping[str, float], key: str, model: str) -> str:
    """Return the version of a caller's key, which stays the same as long as the weights do.

    Args:
        weights: version -> weight above 0.
        key: a value in all requests of the caller.
        model: the model's name, part of the hash, so a key that gets one model's small share need not get another's.
    """
    return max(weights, key=lambda version: _draw_of(version, key, model, weights[version]))


def _draw_of(version: str, key: str, model: str, weight: float) -> float:
    digest = blake2b(f"{model}\0{version}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    # strictly between 0 and 1, so the logarithm is finite and not zero
    uniform = ((int.from_bytes(digest) >> 12) + 0.5) / 2**52
    return weight / -math.log(uniform)


def choose_by_draw(weights: Mapping[str, float], draw: float) -> str:
    """Return the version at this number, from 0 up to, but not, 1."""
    left = draw * math.fsum(weights.values())
    chosen = ""
    for version, weight in weights.items():
        if weight:
            chosen = version
            left -= weight
            if left < 0:
                break
    return chosen


def is_worth_fallback(error: str, status: int) -> bool:
    """Whether another version may succeed.

    It may after no answer in time, no answer at all, or one of 5xx, but not after a client's error.

    Args:
        error: error of the `Answered`; empty if there is an answer.
        status: status of the answer.
    """
    return status >= 500 if not error else error not in {"too_large", "request_too_large"}


def read_hop(event: Mapping[str, Any]) -> int:
    """Return the number of routers that an event has passed."""
    hop: int = (event.get("turnout") or {}).get("hop", 0)
    return hop


def is_shadow(event: Mapping[str, Any]) -> bool:
    """Whether an event is a copy whose answer is discarded."""
    return bool((event.get("turnout") or {}).get("shadow"))


def is_replay(event: Mapping[str, Any]) -> bool:
    """Whether the gateway has recognized an event's request as a replay."""
    return bool((event.get("turnout") or {}).get("replay"))


def handed_on(event: Mapping[str, Any], *, shadow: bool = False) -> dict[str, Any]:
    """Return the event that a router forwards. API Gateway makes no key `turnout`, so clients cannot forge it.

    Args:
        event: the received event; it is not changed.
        shadow: whether this is a copy; a copy's own copies are copies, too.
    """
    said = event.get("turnout") or {}
    kept = {key: said[key] for key in ("replay", ASYNCHRONOUS) if said.get(key)}
    if shadow:
        kept.pop(ASYNCHRONOUS, None)  # a shadow copy's answer is not stored
    return {**event, "turnout": {"hop": read_hop(event) + 1, "shadow": shadow or is_shadow(event), **kept}}
