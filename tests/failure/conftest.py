"""One stack for all tests of failures: each adds real purchases of its own, and the whole must add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shared.program import Program
from tests.fixtures.story import Story, story


@pytest.fixture(scope="package")
def tale(
    tmp_path_factory: pytest.TempPathFactory, program: Program, database: Callable[[str], str]
) -> Iterator[Story]:
    """A running stack, and the end state it must have."""
    with story(tmp_path_factory.mktemp("failure") / "stack", program, database) as one:
        yield one
