"""The account in moto, which lacks GetAccountSettings: a test sets that answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from infra.account import AccountSettings, BotoAccount, find_next_stages
from infra.naming import Place
from tests.engine.stand_in.gateway_resources import Stages


@dataclass
class MotoAccount(BotoAccount):
    """Lists and deletes with boto3; `known` are the settings that AWS would return."""

    known: AccountSettings | None = field(default=None)
    stages: Stages | None = None

    def next_stages(self, place: Place, rest_apis: Mapping[str, str]) -> Collection[str] | None:
        """Return what the stand-in's stages contain: moto drops canaries."""
        return None if self.stages is None else find_next_stages(self.stages, rest_apis)

    def settings(self, place: Place) -> AccountSettings | None:
        """Return the settings from the test."""
        return self.known
