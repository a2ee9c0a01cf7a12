"""Which version answers a call: weights, a caller's key, a draw; and what becomes of a call that fails.

Pure: equal arguments give equal versions, on every machine.

Keys are dealt out by weighted rendezvous hashing: each version draws for the key, from a hash of both, and the highest
draw wins. A key goes from one version to another only where the weight of the other has grown against that of the one,
so that with two versions, or where one version's weight changes against all others', no more keys move than must.
Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005), logarithmic method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

ASYNCHRONOUS = "asynchronous"
"""Key of what an event says of an asynchronous run (`turnout.protocol.requests.runs`)."""

MOST_HOPS = 4
"""Most routers in a chain of calls: the general router and the model's own are two."""


class RouteError(ValueError):
    """A route variable that cannot be read; the message quotes it."""


def spell_weight(percent: float) -> str:
    """`90`, `12.5`: never an exponent, never more or fewer digits than the number has."""
    from decimal import Decimal  # imported late: only the plan calls this; routers read what it wrote

    return str(int(percent)) if percent == int(percent) else format(Decimal(repr(percent)), "f")


def spell_route(weights: Mapping[str, float]) -> str:
    """`v1.90,v2.10`: a version holds no dot, so the first one parts it from its percent."""
    return ",".join(f"{version}.{spell_weight(percent)}" for version, percent in weights.items())


def parse_route(text: str) -> dict[str, float]:
    """The weights that `spell_route` spelled, without those that are zero.

    Raises:
        RouteError: it is no such text, names a version twice, or leaves none with a weight.
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
        raise RouteError(f"expected weights that come to more than 0 and to a number, got {text[:200]!r}")
    return {version: weight for version, weight in weights.items() if weight}


def choose_for_key(weights: Mapping[str, float], key: str, model: str) -> str:
    """The version of a caller's key: the same one for as long as the weights stay.

    Args:
        weights: version -> weight above 0.
        key: what all requests of the caller hold.
        model: its name; a key that is among the few of one model need not be among the few of another.
    """
    return max(weights, key=lambda version: _draw_of(version, key, model, weights[version]))


def _draw_of(version: str, key: str, model: str, weight: float) -> float:
    digest = blake2b(f"{model}\0{version}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
    # strictly between 0 and 1, so the logarithm is finite and not zero
    uniform = ((int.from_bytes(digest) >> 12) + 0.5) / 2**52
    return weight / -math.log(uniform)


def choose_by_draw(weights: Mapping[str, float], draw: float) -> str:
    """The version that a number from 0 up to, but not, 1 falls on."""
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
    """Whether another version may do better: no answer in time, none at all, or one of 5xx; never a client's fault.

    Args:
        error: of the `Answered`; empty where there is an answer.
        status: of the answer.
    """
    return status >= 500 if not error else error not in {"too_large", "request_too_large"}


def read_hop(event: Mapping[str, Any]) -> int:
    """The number of routers that an event has passed."""
    hop: int = (event.get("turnout") or {}).get("hop", 0)
    return hop


def is_shadow(event: Mapping[str, Any]) -> bool:
    """Whether an event is a copy whose answer is dropped."""
    return bool((event.get("turnout") or {}).get("shadow"))


def is_replay(event: Mapping[str, Any]) -> bool:
    """Whether the gateway knows an event's request as one that is sent again."""
    return bool((event.get("turnout") or {}).get("replay"))


def handed_on(event: Mapping[str, Any], *, shadow: bool = False) -> dict[str, Any]:
    """The event as a router hands it on. API Gateway makes no key `turnout`, so that no client can forge what it says.

    Args:
        event: what came; it is not changed.
        shadow: whether this is a copy; a copy's copies are, too.
    """
    said = event.get("turnout") or {}
    kept = {key: said[key] for key in ("replay", ASYNCHRONOUS) if said.get(key)}
    if shadow:
        kept.pop(ASYNCHRONOUS, None)  # a shadow copy's answer is not stored
    return {**event, "turnout": {"hop": read_hop(event) + 1, "shadow": shadow or is_shadow(event), **kept}}
