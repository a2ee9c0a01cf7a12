"""Functions that are suspected of ending workers: only one of their runs is allowed at a time."""

from __future__ import annotations

from collections.abc import Callable


class OneAtATime:
    """A slot for one run of all watched functions; used on the event loop only."""

    def __init__(self) -> None:
        self._is_taken = False
        self._waiting: list[Callable[[], None]] = []

    def take(self, try_again: Callable[[], None]) -> bool:
        """Take the slot, or have `try_again` called once it may be free."""
        if self._is_taken:
            if try_again not in self._waiting:
                self._waiting.append(try_again)
            return False
        self._is_taken = True
        return True

    def give_back(self) -> None:
        """Release the slot."""
        self._is_taken = False
        waiting, self._waiting = self._waiting, []
        for try_again in waiting:
            try_again()
