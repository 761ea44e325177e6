"""Errors, as a tree.

TreueError
├── Poison          an event that can never be applied: goes to the dead letters with field and reason
└── UsageError      a person's mistake at the command line or in a setting: one sentence, what to do next
"""

from __future__ import annotations


class TreueError(Exception):
    """Anything we raise on purpose."""


class Poison(TreueError):
    """An event that can never be applied. ``field`` is its path in the event, e.g. ``data.lines[2].quantity``."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class UsageError(TreueError):
    """A mistake that a person can mend; the text says how."""
