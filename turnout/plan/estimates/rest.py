"""One line of an estimate: an amount and its price."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rest:
    """One line of the cost of a month without calls.

    Args:
        name: the billed item.
        amount: how much of it.
        unit: what `amount` counts, or empty.
        price: the price of one unit.
    """

    name: str
    amount: float
    unit: str
    price: float

    @property
    def dollars(self) -> float:
        """The line's cost."""
        return self.amount * self.price
