"""Alive and ready: what supervisors, load balancers and people ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.errors import TreueError

Check = Callable[[], Awaitable[None]]
CHECK_SECONDS = 2.0
CACHE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class NotReady(TreueError):
    """A component is away; the text is shown to everybody and names no address or secret."""


@dataclass(slots=True)
class Readiness:
    """Runs the checks side by side, at most once a second however many ask."""

    checks: Mapping[str, Check]
    _report: dict[str, Any] = field(default_factory=dict)
    _until: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the answer of /readyz."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._report = await self._run()
                self._until = time.monotonic() + CACHE_SECONDS
            return self._report["status"] == "ready", self._report

    async def _run(self) -> dict[str, Any]:
        outcomes = await asyncio.gather(*(_outcome(*item) for item in self.checks.items()))
        components = dict(zip(self.checks, outcomes, strict=True))
        ready = all(outcome["status"] == "ok" for outcome in outcomes)
        return {"status": "ready" if ready else "not_ready", "components": components}


async def _outcome(name: str, check: Check) -> dict[str, str]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except NotReady as error:
        return {"status": "down", "detail": str(error)}
    except TimeoutError:
        return {"status": "down", "detail": f"no answer within {CHECK_SECONDS:g} s"}
    except Exception as error:  # noqa: BLE001 - whatever it is, this component is not ready
        log.warning("readiness check failed", component=name, error=repr(error))
        return {"status": "down", "detail": type(error).__name__}
    return {"status": "ok"}
