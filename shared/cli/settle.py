"""Waiting until nothing moves any more: the heart of ``treue drain``, also for the demo and the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.cli.lag import Away, Look, Watcher

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Settled:
    """How the waiting ended; ``look`` is the last one that succeeded, ``away`` what spoilt the last try."""

    done: bool
    seconds: float
    look: Look | None
    away: str


async def settle(
    bootstrap: str,
    dsns: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - the answer at the deadline is a value: what is left
    seen: Callable[[Look | None, str], None] = lambda _look, _away: None,
) -> Settled:
    """Wait until every consumer has caught up and every outbox is empty, and it stays so.

    Points, tiers and rewards feed each other, so one look is not enough: an event may be read here and
    written there between two of its questions. A service that had consumed all of its input and sent all
    of its output in one snapshot stays idle until new input comes. So when the ends of all topics, asked
    again after the last snapshot, are still those from before the first, nothing was on its way.
    """
    began = time.monotonic()
    look: Look | None = None
    away = ""
    async with Watcher(bootstrap, dsns) as watcher:
        while True:
            try:
                look, away = await watcher.look(), ""
                if look.done and await watcher.ends() == look.ends:
                    again = await watcher.look()
                    if again.done and again.ends == look.ends:
                        seen(again, "")
                        return Settled(
                            done=True, seconds=time.monotonic() - began, look=again, away=""
                        )
            except Away as error:
                away = str(error)
            seen(look, away)
            passed = time.monotonic() - began
            if passed >= timeout:
                return Settled(done=False, seconds=passed, look=look, away=away)
            await asyncio.sleep(min(POLL_SECONDS, timeout - passed))
