"""Libraries that must not talk over a command: what went wrong is said once, in our own words."""

from __future__ import annotations

import logging


def silence() -> None:
    """No log lines of the Kafka client on a person's screen."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
