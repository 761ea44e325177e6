"""Order, repetition, the number of streams and the keys do not matter."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack

import pytest
from aiokafka import AIOKafkaProducer

from shared.contracts import purchases
from tests.fixtures import retail
from tests.fixtures.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.servers]
STREAMS = 3


def test_in_order_once(tale: Story) -> None:
    lines = retail.part(0)
    tale.told(lines)
    tale.stack.publish(lines)
    tale.holds()


def test_shuffled_and_twice_in_three_streams_at_once(tale: Story) -> None:
    lines = retail.part(1, 2)
    tale.told(lines)
    twice = lines * 2
    random.Random(3).shuffle(twice)
    with ExitStack() as streams:
        for number in range(STREAMS):
            streams.enter_context(tale.stack.publishing(twice[number::STREAMS]))
    tale.holds()


async def test_random_keys(tale: Story) -> None:
    lines = retail.part(3)
    chance = random.Random(5)
    async with AIOKafkaProducer(bootstrap_servers=tale.stack.json()["kafka"]) as producer:
        for line in lines + lines[::3]:
            await producer.send(purchases.TOPIC, line, key=chance.randbytes(8))
    await asyncio.to_thread(tale.told, lines)
    await asyncio.to_thread(tale.holds)
