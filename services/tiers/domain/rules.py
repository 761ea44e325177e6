"""The program's tier rules as the service uses them, with a version of their own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from services.tiers.domain.progression import Later, Timeline, timeline
from services.tiers.domain.qualification import Basis, Qualifying
from services.tiers.domain.standing import Standing, first_standing, standing_of
from shared.program import Program
from shared.program.model import Tiers, Window

VERSION_CHARS = 12
# A program without tiers: entries are kept, so that levels introduced later find them, and nobody moves.
NO_TIERS = Tiers.model_construct(
    basis="points", window=Window.model_construct(kind="lifetime"), levels=()
)


class Rules:
    """What decides a customer's way. ``version`` names it: other changes of the program walk nobody anew.

    ``tiers`` are the rules from the beginning, ``later`` those of versions of the program that change them.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self.zone = program.zone
        self._lay_out()

    def look(self) -> None:
        """See whether versions of the program have come. Only where nothing that was walked waits to be stored."""
        self._program.look()
        if self._program.later is not self._seen:
            self._lay_out()

    def _lay_out(self) -> None:
        self._seen = self._program.later
        self.tiers: Tiers = self._program.tiers or NO_TIERS
        self.later: Later = _changes(self.tiers, self._seen)
        self.basis: Basis = self.tiers.basis
        self.first_standing = first_standing(self.tiers, self.later)
        content = f"{self._program.timezone}\n{self.tiers!r}"
        for valid_from, tiers in self.later:
            content += f"\n{valid_from.isoformat()}\n{tiers!r}"
        self.version = sha256(content.encode()).hexdigest()[:VERSION_CHARS]

    def at(self, instant: datetime) -> Tiers:
        """The rules in force at an instant."""
        begun = [tiers for valid_from, tiers in self.later if valid_from <= instant]
        return begun[-1] if begun else self.tiers

    def walk(self, entries: Iterable[Qualifying], until: datetime) -> Timeline:
        """Walk the way that these entries make up to an instant, included."""
        return timeline(entries, self.tiers, self.zone, until, self.later)

    def standing_of(self, walked: Timeline) -> Standing:
        """The standing after a full walk."""
        return standing_of(walked, self.tiers, self.later)


def _changes(first: Tiers, versions: Iterable[tuple[datetime, Program]]) -> Later:
    """The rules of those versions that change them."""
    found: list[tuple[datetime, Tiers]] = []
    before = first
    for valid_from, program in versions:
        tiers = program.tiers or NO_TIERS
        if tiers != before:
            found.append((valid_from, tiers))
        before = tiers
    return tuple(found)
