"""Libraries that repeat themselves: during an outage aiokafka says the same ninety times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

AGAIN_SECONDS = 30.0
KEPT_MAX = 1000


@dataclass(slots=True)
class _Said:
    at: float
    withheld: int = 0


class Throttle(logging.Filter):
    """Lets each message of these loggers through once in a while, with how often it was said in between.

    A message is its text before the arguments are filled in. Goes on a handler: a logger's own filters do not
    see what its children log.
    """

    def __init__(self, *loggers: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._loggers = loggers
        self._clock = clock
        self._said: dict[tuple[str, str], _Said] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; it may be told how many were not."""
        if not record.name.startswith(self._loggers):
            return True
        key, now = (record.name, str(record.msg)), self._clock()
        said = self._said.get(key)
        if said is not None and now - said.at < AGAIN_SECONDS:
            said.withheld += 1
            return False
        if len(self._said) >= KEPT_MAX:
            self._said.clear()
        self._said[key] = _Said(now)
        if said is not None and said.withheld:
            record.msg = f"{record.msg} (and {said.withheld} times more since it was last told)"
        return True
