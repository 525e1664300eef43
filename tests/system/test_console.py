"""Work that takes long shows that it advances."""

import logging
import sys
from types import SimpleNamespace

import pytest

from fedsim.system import console
from fedsim.system.console import LOG, format_duration, show_steps, shows_bars


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"),
                                               (90061, "25:01:01")])
def test_a_duration_is_hours_minutes_and_seconds(seconds, text):
    assert format_duration(seconds) == text


def test_without_a_terminal_there_is_a_line_now_and_then_but_none_at_the_end(monkeypatch, capsys):
    """Steps of 20 seconds each. Catches a line a step, and a remaining time that counts steps that are done."""
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with show_steps("scoring", 6) as advance:
        for _ in range(6):
            advance()
    assert capsys.readouterr().out.splitlines() == ["scoring 2 of 6, about 0:01:20 left",
                                                    "scoring 4 of 6, about 0:00:40 left"]


@pytest.mark.parametrize(("terminal", "kind", "level", "bars"), [
    (True, "xterm", logging.INFO, True), (False, "xterm", logging.INFO, False), (True, "dumb", logging.INFO, False),
    (True, "xterm", logging.WARNING, False)])
def test_bars_need_a_terminal_and_are_not_drawn_when_fedsim_is_to_be_quiet(monkeypatch, terminal, kind, level, bars):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", kind)
    before = LOG.level
    LOG.setLevel(level)
    try:
        assert shows_bars() == bars
    finally:
        LOG.setLevel(before)
