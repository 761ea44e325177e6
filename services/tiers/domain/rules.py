"""The program's tier rules as the service uses them, with a version of their own."""

from __future__ import annotations

from hashlib import sha256

from services.tiers.domain.qualification import Basis
from services.tiers.domain.standing import first_standing
from shared.program import Program
from shared.program.model import Tiers, Window

VERSION_CHARS = 12
# A program without tiers: entries are kept, so that levels introduced later find them, and nobody moves.
NO_TIERS = Tiers.model_construct(
    basis="points", window=Window.model_construct(kind="lifetime"), levels=()
)


class Rules:
    """What decides a customer's way. ``version`` names it: other changes of the program walk nobody anew."""

    def __init__(self, program: Program) -> None:
        self.tiers: Tiers = program.tiers or NO_TIERS
        self.zone = program.zone
        self.basis: Basis = self.tiers.basis
        self.first_standing = first_standing(self.tiers)
        content = f"{program.timezone}\n{self.tiers!r}"
        self.version = sha256(content.encode()).hexdigest()[:VERSION_CHARS]
