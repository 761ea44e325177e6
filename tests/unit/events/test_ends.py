"""What the worker's watch asks of the consumer while a rebalance takes partitions away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

from shared.events.app import App


class Partition(NamedTuple):
    topic: str
    partition: int


class Consumer:
    """Answers as aiokafka does: an assertion for what is assigned no more, None for what was not fetched yet."""

    def __init__(self, highwater: dict[Partition, int | None], gone: Partition) -> None:
        self._highwater = highwater
        self._gone = gone

    def assignment(self) -> set[Partition]:
        return {*self._highwater, self._gone}

    def highwater(self, tp: Partition) -> int | None:
        assert tp != self._gone, "Partition is not assigned"
        return self._highwater[tp]


def test_a_partition_taken_away_meanwhile_has_no_end() -> None:
    known = {Partition("a", 0): 7, Partition("a", 1): None, Partition("b", 0): 0}
    app = SimpleNamespace(consumer=Consumer(known, Partition("b", 1)))
    assert App.ends(app) == {("a", 0): 7, ("b", 0): 0}  # type: ignore[arg-type]
