"""A server that hangs: everybody says so, waits with bounded memory, and goes on by itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil  # type: ignore[import-untyped]
import pytest

from tests.fixtures import retail
from tests.fixtures.live import LiveStack, until
from tests.fixtures.shop import selling
from tests.fixtures.story import Story

pytestmark = [pytest.mark.stack, pytest.mark.servers]

AWAY_SECONDS = 8.0
GROWTH_BYTES_MAX = 80 * 1024 * 1024
PER_SECOND = 400.0
WORKERS = ("points-worker", "tiers-worker", "rewards-worker")
APIS = ("points-api", "tiers-api", "rewards-api")


@contextmanager
def frozen(stack: LiveStack, server: str) -> Iterator[None]:
    """The server's processes are stopped, as on a machine that hangs: connections stay, answers do not come."""
    first = psutil.Process(stack.pid(server))
    members = [first, *first.children(recursive=True)]
    for one in members:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in members:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)


def memory(stack: LiveStack) -> dict[str, int]:
    return {name: psutil.Process(stack.pid(name)).memory_info().rss for name in WORKERS}


@pytest.mark.parametrize(("server", "part"), [("postgres", 9), ("kafka", 10)])
def test_a_server_hangs_while_events_flow(tale: Story, server: str, part: int) -> None:
    stack, lines = tale.stack, retail.part(part)
    tale.told(lines)
    until(stack.all_ready, 30, "every part is ready")
    pids = {name: stack.pid(name) for name in WORKERS}
    with selling(stack.json()["kafka"], lines, PER_SECOND) as shop:
        time.sleep(1)
        before = memory(stack)
        with frozen(stack, server):
            ends = time.monotonic() + AWAY_SECONDS
            until(lambda: nobody_ready(stack), AWAY_SECONDS, "every part says it is not ready")
            shop.hurry()
            time.sleep(max(0.0, ends - time.monotonic()))
            after = memory(stack)
    until(stack.all_ready, 60, "every part is ready again")
    tale.holds()
    assert {name: stack.pid(name) for name in WORKERS} == pids, "no worker had to be started anew"
    for name in WORKERS:
        assert after[name] - before[name] < GROWTH_BYTES_MAX


def nobody_ready(stack: LiveStack) -> bool:
    answers = stack.readiness()
    return all(answers[name] == 503 for name in (*WORKERS, *APIS))
