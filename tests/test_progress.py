"""`progress`: the steps as they are, with a bar where there is a terminal."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modula.progress
from modula.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(st.integers()))
def test_the_steps_come_as_they_are(steps):
    assert list(progress(steps, "steps")) == steps


def test_a_terminal_shows_the_time_left_after_a_while(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(modula.progress, "PATIENCE", 0.0)
    assert list(progress(range(1000), "searching", "module")) == list(range(1000))
    assert "searching" in terminal.getvalue()
    assert "<" in terminal.getvalue()  # the time left, in tqdm's format


def test_what_ends_soon_shows_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress(range(10), "searching"))
    assert "searching" not in terminal.getvalue()


def test_without_tqdm_the_steps_come_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progress(range(3), "steps")) == [0, 1, 2]
