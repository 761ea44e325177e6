"""One module per kind of event: append what counts, let the domain walk, publish what changed."""

from __future__ import annotations

from services.tiers.domain.rules import Rules
from services.tiers.handlers.merges import Merges
from services.tiers.handlers.told import PointsTold
from services.tiers.handlers.walking import walk, walk_persons
from shared.program import Program

__all__ = ["Handlers", "walk", "walk_persons"]


class Handlers:
    """The handlers of events, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        rules = Rules(program)
        self.points_told = PointsTold(rules).handle
        self.merges = Merges(rules).handle
