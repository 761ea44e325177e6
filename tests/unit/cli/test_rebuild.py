"""Customers compared as two streams: who has the same, who not, and who is on one side only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.cli.rebuild import NAMED_MAX, Part, differing

sides = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from("xy"))


async def stream(rows: Sequence[tuple[str, str]]) -> AsyncIterator[tuple[str, str]]:
    for row in rows:
        yield row


def compared(here: dict[str, str], there: dict[str, str]) -> Part:
    return asyncio.run(differing(stream(sorted(here.items())), stream(sorted(there.items()))))


@given(sides, sides)
def test_everybody_who_differs_is_counted_and_the_first_are_named(
    here: dict[str, str], there: dict[str, str]
) -> None:
    wrong = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    assert compared(here, there) == Part(len(here), len(wrong), wrong[:NAMED_MAX])


def test_only_the_first_are_named() -> None:
    many = {f"c{number:03}": "x" for number in range(NAMED_MAX * 2)}
    assert compared(many, {}) == Part(len(many), len(many), sorted(many)[:NAMED_MAX])
    assert compared({}, many) == Part(0, len(many), sorted(many)[:NAMED_MAX])
