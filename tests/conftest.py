"""Fixtures for all tests; those that need servers live in tests/fixtures."""

from __future__ import annotations

import structlog

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
