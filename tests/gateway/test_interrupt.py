from __future__ import annotations

import signal

import pytest

from turnout.gateway.interrupt import remembered_interrupt


class Callback:
    """Interrupted while it is collected, where Python raises nothing out of."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_falls_into_a_callback_is_raised_at_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with remembered_interrupt() as check:
        check()
        callback = Callback()
        del callback  # dropped: we are still here
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_is_raised_at_once_where_it_can_be() -> None:
    with remembered_interrupt(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
