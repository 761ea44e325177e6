"""Mistakes of a program file: where, what, and what would be allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import UsageError

KEY_CHARS_MAX = 64

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake; line and column count from 1, line 0 is about the file as a whole."""

    line: int
    column: int
    field: str
    message: str
    allowed: str = ""

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"{field}{self.message}{f' (allowed: {self.allowed})' if self.allowed else ''}"


class ProgramError(UsageError):
    """A program file that cannot be used, with all of its mistakes."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.file = file
        self.mistakes = sorted(mistakes, key=lambda mistake: (mistake.line, mistake.column))
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        return [
            f"{self.file}:{f'{mistake.line}:' if mistake.line else ''} {mistake}"
            for mistake in self.mistakes
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake whose place is still a path of the file's content."""

    path: Path
    message: str
    allowed: str = ""


def dotted(path: Path) -> str:
    """Write a path as people do: ``tiers.levels[2].threshold``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{_named(step)}" for step in path)
    return "".join(steps).removeprefix(".")


def _named(key: str) -> str:
    """Show a key of the file in one line."""
    key = key if len(key) <= KEY_CHARS_MAX else f"{key[:KEY_CHARS_MAX]}…"
    return key if key.isprintable() else repr(key)
