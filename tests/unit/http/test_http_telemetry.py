"""Logs are one line of JSON an event, metrics have our names and one registry a process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared.telemetry import logs
from shared.telemetry.metrics import Metrics


@pytest.fixture
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def fail(secret: str) -> None:
    raise ValueError(f"bad, but nothing of {len(secret)} characters is shown")


@pytest.mark.usefixtures("_restored")
def test_json_has_time_level_service_and_no_local_variables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(service="points", role="api", fmt="json", level="INFO")
    log = structlog.get_logger("somewhere")
    log.debug("not shown")
    log.info("ready", port=8101)
    logging.getLogger("library").warning("of %s", "theirs")
    try:
        fail("the-key-of-somebody")
    except ValueError:
        log.exception("failed")
    shown = capsys.readouterr().err
    ready, theirs, failed = (json.loads(line) for line in shown.splitlines())
    assert ready["timestamp"].endswith("Z")
    del ready["timestamp"]
    assert ready == {
        "event": "ready",
        "port": 8101,
        "level": "info",
        "logger": "somewhere",
        "service": "points",
        "role": "api",
    }
    assert (theirs["event"], theirs["level"], theirs["role"]) == ("of theirs", "warning", "api")
    assert failed["exception"][0]["exc_type"] == "ValueError"
    assert "the-key-of-somebody" not in shown


@pytest.mark.usefixtures("_restored")
def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(service="points", role="api", fmt="console", level="WARNING")
    log = structlog.get_logger("somewhere")
    log.info("not shown")
    log.warning("slow", seconds=3)
    shown = capsys.readouterr().err
    assert "slow" in shown
    assert "seconds=3" in shown
    assert "not shown" not in shown


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    one, other = (Metrics(service=name, role="api", version="1") for name in ("a", "b"))
    one.counter("treue_things_total", "Things.").inc()
    other.counter("treue_things_total", "Things.").inc(5)
    assert b"treue_things_total 1.0" in one.exposition()
    assert b"treue_things_total 5.0" in other.exposition()
    assert b"_created" not in one.exposition()
    assert b"process_cpu_seconds_total" in one.exposition()


@pytest.mark.parametrize("name", ["things_total", "treue_latency_ms", "treue_things"])
def test_a_name_outside_the_convention_is_refused(name: str) -> None:
    metrics = Metrics(service="a", role="api", version="1")
    with pytest.raises(ValueError, match=name):
        metrics.gauge(name, "Anything.")
    with pytest.raises(ValueError, match="_total"):
        metrics.counter("treue_things_seconds", "Anything.")
