"""Fixtures for all tests; those that need servers live in tests/fixtures."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import structlog

from tests.fixtures.live import LiveStack
from tests.fixtures.servers import (  # noqa: F401 - fixtures are found by name
    database,
    kafka,
    points_db,
    program,
    rewards_db,
    servers,
    tiers_db,
)

# The default prints the locals of every frame: of a batch of thousands, for ten minutes.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure on a stack shows what its workers said: the folder with their logs does not stay."""
    report = yield
    if report.failed:
        for value in item.funcargs.values():
            stack = getattr(value, "stack", value)
            if isinstance(stack, LiveStack):
                report.sections.append(("Warnings and errors of the stack", stack.errors()))
    return report
