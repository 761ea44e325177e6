"""What the stream runner counts. Small labels only: never a customer."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BATCH_ROWS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


class StreamMetrics:
    """The metrics of one worker in its own registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "treue_events_total",
            "Events by verdict",
            ["topic", "type", "verdict"],
            registry=registry,
        )
        self.batch_rows = Histogram(
            "treue_batch_rows", "Records in one transaction", buckets=BATCH_ROWS, registry=registry
        )
        self.batch_seconds = Histogram(
            "treue_batch_seconds", "Time of one transaction", buckets=SECONDS, registry=registry
        )
        self.retries = Counter(
            "treue_batch_retries_total", "Transactions begun again", ["error"], registry=registry
        )
        self.published = Counter(
            "treue_published_total",
            "Events acknowledged by the broker",
            ["topic"],
            registry=registry,
        )
        self.lag = Gauge(
            "treue_lag_records", "Records not yet consumed", ["topic"], registry=registry
        )
        self.outbox = Gauge("treue_outbox_rows", "Outbox rows not yet published", registry=registry)
        self.outbox_age = Gauge(
            "treue_outbox_oldest_seconds", "Age of the oldest one", registry=registry
        )
        self.dead_letters = Gauge(
            "treue_dead_letters_open", "Dead letters not yet dealt with", registry=registry
        )
        self.up = Gauge(
            "treue_component_up", "1 if the component answers", ["component"], registry=registry
        )
