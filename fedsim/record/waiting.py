"""Moved."""

from fedsim.waiting import clock, waiting

__all__ = ["clock", "waiting"]
