"""Turns a call into a stored request."""

from __future__ import annotations

import random

import orjson

from turnout.gateway.api.asynchronous import AsyncCall
from turnout.gateway.api.exchange import Exchange
from turnout.gateway.requests.files import Content
from turnout.gateway.requests.policies import called_by
from turnout.gateway.requests.rows import NewRequest
from turnout.manifest.values import Asynchronous
from turnout.protocol.requests.fingerprints import CallFingerprint, without_secrets
from turnout.protocol.requests.states import accept


def find_caller(exchange: Exchange) -> str:
    """Return the caller who owns the request; empty if anyone may call the stage.

    The consumer, with any of its keys; the API key; the signer of the request; or the subject of its token.
    """
    if exchange.key is not None:
        return exchange.caller or exchange.key.id
    subject = "" if exchange.claims is None else str(exchange.claims.get("sub", ""))
    return exchange.signer or subject


def make_request(
    call: AsyncCall,
    *,
    identifier: str,
    fingerprint: CallFingerprint,
    content: Content,
    policy: Asynchronous,
    max_answer_bytes: int,
    callback: str,
    now: float,
) -> NewRequest:
    """Return the request to store for a call."""
    exchange = call.exchange
    model, version = called_by(call.target.function, call.path)
    # Routers choose a version by this number, so each run of the request makes the same choice.
    draw = random.random()  # noqa: S311
    event = {**without_secrets(call.event), "body": None, "isBase64Encoded": False, "turnout": {"draw": draw}}
    return NewRequest(
        id=identifier,
        stage=call.routed.stage.settings.name,
        key_id=find_caller(exchange),
        fingerprint=str(fingerprint),
        progress=accept(now, policy.time_to_live_s, policy.max_attempts),
        function=call.target.function,
        alias=call.target.alias,
        is_canary=call.routed.share.is_canary,
        model=model,
        version=version,
        path=call.path,
        event=orjson.dumps(event),
        body=content,
        max_answer_bytes=max_answer_bytes,
        callback=callback,
        callback_private=policy.allow_private_callbacks,
    )
