"""The account in moto, which has no GetAccountSettings: what that would answer is a test's to say."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.account import AccountSettings, BotoAccount
from infra.naming import Place


@dataclass
class MotoAccount(BotoAccount):
    """Lists and deletes with boto3; `known` is what AWS allows."""

    known: AccountSettings | None = field(default=None)

    def settings(self, place: Place) -> AccountSettings | None:
        """What the test says."""
        return self.known
