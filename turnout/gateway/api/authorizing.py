"""Checks who sent a request and whether they may, after matching its route and before throttling."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from turnout.gateway.api.exchange import Exchange, Routed
from turnout.gateway.api.fields import API_KEY, AUTHORIZATION
from turnout.gateway.rules.authorize import REFUSAL_OF, Access
from turnout.gateway.rules.errors import ACCESS_DENIED, INVALID_API_KEY, UNAUTHORIZED, GatewayError
from turnout.gateway.rules.tokens import READ_TIMEOUT_S, TokenKeys, check_token
from turnout.protocol.aws.callers import find_called_model, may_call, utc_day


@dataclass(frozen=True, slots=True)
class CallerChecks:
    """The keys that verify callers, besides API keys.

    Args:
        signing_keys: access key -> secret key; without any, every stage with `auth: iam` is closed.
        tokens: issuer -> its keys; tokens of other issuers are rejected.
    """

    signing_keys: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, TokenKeys] = field(default_factory=dict)
    _reading: dict[TokenKeys, asyncio.Future[None]] = field(default_factory=dict, compare=False, repr=False)

    async def read_keys(self, keys: TokenKeys) -> None:
        """Wait until an issuer's keys are read, but no longer than `READ_TIMEOUT_S`.

        All waiting requests share one thread, so an issuer that does not answer blocks no more than one.
        """
        reading = self._reading.get(keys)
        if reading is None:
            reading = self._reading[keys] = asyncio.ensure_future(asyncio.to_thread(keys.refresh))
            reading.add_done_callback(lambda _: self._reading.pop(keys, None))
        await asyncio.wait([reading], timeout=READ_TIMEOUT_S)

    def authorize(self, exchange: Exchange, routed: Routed, *, is_whole: bool) -> GatewayError | None:
        """Find out who sent a request; return the error if it is rejected.

        Args:
            exchange: the caller is set on it.
            routed: the operation that the request calls.
            is_whole: whether its body has arrived.

        Raises:
            KeysNeededError: an issuer's keys must be read first.
        """
        match routed.operation.access:
            case Access.OPEN:
                return None
            case Access.API_KEY:
                return _check_key(exchange, routed)
            case Access.IAM if self.signing_keys:
                return self._check_signature(exchange, is_whole=is_whole)
            case Access.JWT:
                return self._check_token(exchange, routed)
            case access:
                return REFUSAL_OF[access]

    def _check_signature(self, exchange: Exchange, *, is_whole: bool) -> GatewayError | None:
        from turnout.gateway.rules.sigv4 import SignedRequest, check_signature  # only stages with `auth: iam` need it

        request = exchange.request
        signed = SignedRequest(
            request.method, request.path, request.query, request.headers, request.body if is_whole else None
        )
        signer = check_signature(signed, self.signing_keys, exchange.now)
        if isinstance(signer, GatewayError):
            return signer
        exchange.signer = signer
        return None

    def _check_token(self, exchange: Exchange, routed: Routed) -> GatewayError | None:
        rules = routed.operation.tokens
        keys = self.tokens.get(rules.issuer) if rules is not None else None
        if rules is None or keys is None:
            return UNAUTHORIZED
        exchange.claims = check_token(routed.fields.known[AUTHORIZATION], rules, keys)
        return UNAUTHORIZED if exchange.claims is None else None


def _check_key(exchange: Exchange, routed: Routed) -> GatewayError | None:
    key = exchange.key = routed.stage.keys.find(routed.fields.known[API_KEY])
    if key is None:
        return INVALID_API_KEY
    return None if key.consumer is None or may_call_operation(exchange, routed) else ACCESS_DENIED


def may_call_operation(exchange: Exchange, routed: Routed) -> bool:
    """Whether the consumer whose key was sent, if any, may call an operation; on AWS the authorizer decides this."""
    consumer = None if exchange.key is None else exchange.key.consumer
    if consumer is None:
        return True
    model = find_called_model(routed.operation.resource, routed.parameters)
    return may_call(consumer.rules, model, utc_day(exchange.now))
