"""Metrics: one registry per process, names ``treue_…`` in base units, never a customer."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "treue_"
UNITS = ("_seconds", "_bytes", "_total", "_ratio", "_points", "_info", "_connections", "_rows")
# From a cached read to a statement at its time limit.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# One more series for each, which nobody here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The registry of one process and the only way to make a metric in it."""

    def __init__(self, *, service: str, role: str, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        info = self.gauge("treue_build_info", "What runs here.", ("service", "role", "version"))
        info.labels(service, role, version).set(1)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; ``name`` ends in ``_total``."""
        if not name.endswith("_total"):
            raise ValueError(f"{name}: a counter's name ends in _total")
        return Counter(_checked(name), help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return Gauge(_checked(name), help_text, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = SECONDS,
    ) -> Histogram:
        """A distribution, by default of seconds."""
        return Histogram(
            _checked(name), help_text, labels, registry=self.registry, buckets=tuple(buckets)
        )

    def exposition(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)


def _checked(name: str) -> str:
    if not name.startswith(PREFIX) or not name.endswith(UNITS):
        raise ValueError(
            f"{name}: a metric is named {PREFIX}… and ends in one of {', '.join(UNITS)}"
        )
    return name
