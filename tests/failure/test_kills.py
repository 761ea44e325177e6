"""kill -9 in the middle of the stream: nothing is lost, nothing counts twice, nobody has to help."""

from __future__ import annotations

import signal
import time

import pytest

from tests.fixtures import retail
from tests.fixtures.live import until
from tests.fixtures.shop import selling
from tests.fixtures.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.servers]
PER_SECOND = 250.0
WORKERS = ("points-worker", "tiers-worker", "rewards-worker")


def test_every_worker_is_killed_while_events_flow(tale: Story) -> None:
    stack, lines = tale.stack, retail.part(4, 5)
    tale.told(lines)
    before = {name: stack.restarts(name) for name in WORKERS}
    with selling(stack.json()["kafka"], lines, PER_SECOND):
        for name in WORKERS:
            time.sleep(2)
            stack.kill(name)
    until(stack.all_ready, 60, "every part is ready again")
    tale.holds()
    for name in WORKERS:
        assert stack.restarts(name) > before[name]


@pytest.mark.parametrize(("server", "part"), [("kafka", 6), ("postgres", 7)])
def test_a_server_is_killed_while_events_flow(tale: Story, server: str, part: int) -> None:
    stack, lines = tale.stack, retail.part(part)
    tale.told(lines)
    before = stack.restarts(server)
    with selling(stack.json()["kafka"], lines, PER_SECOND):
        time.sleep(2)
        stack.kill(server)
        until(lambda: not stack.all_ready(), 10, "somebody notices")
    until(stack.all_ready, 60, "every part is ready again")
    tale.holds()
    assert stack.restarts(server) == before + 1


def test_everything_is_killed_at_once(tale: Story) -> None:
    stack, lines = tale.stack, retail.part(8)
    tale.told(lines)
    with selling(stack.json()["kafka"], lines, PER_SECOND):
        time.sleep(2)
        for name in (*WORKERS, "kafka", "postgres"):
            stack.kill(name, signal.SIGKILL)
    until(stack.all_ready, 90, "every part is ready again")
    tale.holds()
    stack.verify()
