"""Fixtures for all tests; those that need servers live in tests/fixtures."""

from __future__ import annotations

from tests.fixtures.servers import (  # noqa: F401 - fixtures are found by name
    database,
    kafka,
    points_db,
    program,
    rewards_db,
    servers,
    tiers_db,
)
