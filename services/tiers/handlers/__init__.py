"""One module per kind of event: append what counts, let the domain walk, publish what changed."""

from __future__ import annotations

from services.tiers.handlers.told import Handlers
from services.tiers.handlers.walking import walk

__all__ = ["Handlers", "walk"]
