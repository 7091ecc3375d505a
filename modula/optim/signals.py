"""Signals, such as the one of Ctrl-C, that wait while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
INTERRUPTS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
"""The signals with which a program's user, a timer or a cluster's scheduler interrupts it."""


@contextmanager
def signals_wait() -> Iterator[None]:
    """Let an interrupt that arrives inside this context run its handler after it.

    Handlers are exchanged, since a mask (`pthread_sigmask`) holds for one thread: the operating
    system gives the signal to another thread of torch's, and Python runs the handler all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread alone
        return
    arrived: list[int] = []
    with ExitStack() as after:  # what one of its callbacks raises keeps no other from running
        after.callback(_raise, arrived)
        for number in INTERRUPTS:
            handler = signal.getsignal(number)
            if callable(handler):
                after.callback(signal.signal, number, handler)
                signal.signal(number, lambda number, _: arrived.append(number))
        yield


def _raise(arrived: Sequence[int]) -> None:
    """Run the handlers of these signals, all of them, though one may raise."""
    with ExitStack() as raised:
        for number in reversed(arrived):
            raised.callback(signal.raise_signal, number)
