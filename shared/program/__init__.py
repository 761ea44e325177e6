"""The program file: a loyalty program's rules as YAML, checked with line and field of every mistake."""

from __future__ import annotations

from shared.program.loader import load, parse
from shared.program.mistakes import Mistake, ProgramError
from shared.program.model import Program

__all__ = ["Mistake", "Program", "ProgramError", "load", "parse"]
