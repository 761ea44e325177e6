"""A first batch after an assignment must begin where PostgreSQL says, or be asked for again."""

from __future__ import annotations

import pytest
from faust.types import TP

from shared.events.transport import BatchConsumer

HERE = TP("treue.purchases", 3)


class Consumer(BatchConsumer):
    """The rule alone, without a broker: it notes where it would seek to."""

    def __init__(self) -> None:
        self._unproven = {HERE}
        self.sought: list[int] = []

    async def _seek(self, partition: TP, offset: int) -> None:
        assert partition == HERE
        self.sought.append(offset)


@pytest.mark.parametrize(("position", "first"), [(10, 10), (10, 7), (None, 10)])
async def test_a_batch_that_begins_at_the_position_is_taken(
    position: int | None, first: int
) -> None:
    consumer = Consumer()
    assert not await consumer._skips(HERE, position, first)
    assert consumer.sought == []


async def test_a_batch_from_further_on_is_asked_for_once_more_and_then_taken() -> None:
    consumer = Consumer()
    assert await consumer._skips(HERE, 10, 30)
    assert consumer.sought == [10]
    # The offsets between are really gone: retention, or the marks of transactions.
    assert not await consumer._skips(HERE, 10, 30)
    assert consumer.sought == [10]
