"""Interrupts that wait until something is done."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modula.optim.signals import signals_wait


@contextmanager
def handled(number: int, handler) -> Iterator[None]:
    kept = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, kept)


def interrupt_from_another_thread(number: int) -> None:
    """Send a signal to the process, whichever of its threads takes it."""
    thread = threading.Thread(target=os.kill, args=(os.getpid(), number))
    thread.start()
    thread.join()
    time.sleep(0.01)  # Python looks for signals between bytecodes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_handler_runs_after_the_context(number):
    ran: list[int] = []
    with handled(number, lambda *_: ran.append(number)):
        with signals_wait():
            interrupt_from_another_thread(number)
            assert not ran
        assert ran == [number]
        signal.raise_signal(number)
        assert ran == [number, number]


def test_an_interrupt_is_raised_when_the_context_has_ended():
    done: list[bool] = []

    def work() -> None:
        with signals_wait():
            interrupt_from_another_thread(signal.SIGINT)
            done.append(True)

    # A shell starts its background jobs with SIGINT ignored.
    with handled(signal.SIGINT, signal.default_int_handler):
        with pytest.raises(KeyboardInterrupt):
            work()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert done


def test_every_handler_runs_though_one_raises():
    ran: list[int] = []

    def raising(*_: object) -> None:
        raise RuntimeError("from a handler")

    def work() -> None:
        with signals_wait():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)

    with (
        handled(signal.SIGUSR1, raising),
        handled(signal.SIGUSR2, lambda *_: ran.append(1)),
        pytest.raises(RuntimeError, match="from a handler"),
    ):
        work()
    assert ran == [1]


def test_contexts_are_nested():
    ran: list[int] = []
    with handled(signal.SIGUSR1, lambda *_: ran.append(1)):
        with signals_wait():
            with signals_wait():
                signal.raise_signal(signal.SIGUSR1)
            assert not ran
        assert ran == [1]


def test_threads_other_than_the_main_one_need_no_handlers():
    failed: list[BaseException] = []

    def use() -> None:
        try:
            with signals_wait():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not failed
