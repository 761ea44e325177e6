"""What every contestant must arrive at: points per event and per customer, by the product's pure domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from benchmarks.load import Load
from benchmarks.site import PROGRAM
from services.points.domain.earning import assess
from shared.contracts.envelope import Incoming
from shared.contracts.purchases import PurchaseCompleted
from shared.program import load as load_program

_envelope = msgspec.json.Decoder(Incoming).decode
_purchase = msgspec.json.Decoder(PurchaseCompleted).decode


class Oracle:
    """Right totals for a load, also for a part of its events."""

    def __init__(self, load: Load) -> None:
        program = load_program(PROGRAM)
        self._points: dict[str, tuple[str, int]] = {}
        for record in load.records:
            envelope = _envelope(record.value)
            if envelope.id in self._points:
                continue
            purchase = _purchase(envelope.data)
            customer = purchase.customer_id
            points = 0 if customer is None else assess(purchase, program).base
            self._points[envelope.id] = (customer or "", points)

    def totals(self, events: Iterable[str] | None = None) -> dict[str, int]:
        """Points per customer who has any, after these events (or all)."""
        sums: Counter[str] = Counter()
        for event in self._points if events is None else events:
            customer, points = self._points[event]
            sums[customer] += points
        return without_zeros(sums)


def without_zeros(totals: Mapping[str, int]) -> dict[str, int]:
    """A customer without points and no customer are the same here."""
    return {customer: points for customer, points in totals.items() if points}
