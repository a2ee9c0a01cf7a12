from __future__ import annotations

import signal

import pytest

from turnout.gateway.interrupt import remembered_interrupt


class Callback:
    """Interrupted while it is collected; Python does not raise exceptions from there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_during_a_callback_is_raised_at_the_next_check() -> None:
    before = signal.getsignal(signal.SIGINT)
    with remembered_interrupt() as check:
        check()
        callback = Callback()
        del callback  # the exception was dropped: the program is still running
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_is_raised_immediately_if_possible() -> None:
    with remembered_interrupt(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
