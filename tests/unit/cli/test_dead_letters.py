"""Dead letters: how they are named, when they may come back, how their bytes are shown."""

from __future__ import annotations

from typing import Any

import pytest

from shared.cli.dead_letters import readable
from shared.cli.letters import REPLAYS_MAX, Ref, originals, parse_ref, refusal, replayed
from shared.errors import UsageError
from shared.events.dead_letters import pack_headers

SERVICES = ("points", "tiers", "rewards")


def letter(**changes: Any) -> Any:
    fields = {"headers": "[]", "replays": 0, "state": "open", "value": b"x", "note": None}
    return fields | changes


def test_a_letter_is_named_by_service_and_number() -> None:
    assert parse_ref("tiers:12", SERVICES, None) == Ref("tiers", 12)
    assert parse_ref("12", SERVICES, "points") == Ref("points", 12)
    assert str(Ref("points", 3)) == "points:3"


@pytest.mark.parametrize("text", ["12", "x:12", "points:", "points:-1", "points:a", ""])
def test_another_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write SERVICE:NUMBER like points:"):
        parse_ref(text, SERVICES, None)


def test_replays_are_counted_over_the_letters_a_record_died_as() -> None:
    headers = pack_headers(
        [("content-type", b"json"), ("x-replays", b"2"), ("x-treue-reason", b"r")]
    )
    assert originals(headers) == [("content-type", b"json"), ("x-replays", b"2")]
    assert replayed(letter(headers=headers)) == 2
    assert replayed(letter(headers=headers, replays=3)) == 3
    assert replayed(letter(headers=pack_headers([("x-replays", b"many")]))) == 0


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (None, "there is no such dead letter"),
        (letter(state="discarded", note="noise"), "it was discarded (noise)"),
        (letter(value=None), "nothing to send"),
        (letter(replays=REPLAYS_MAX), "has come back 5 times"),
        (letter(headers=pack_headers([("x-replays", b"5")])), "has come back 5 times"),
        (letter(replays=REPLAYS_MAX - 1), ""),
        (letter(state="replayed"), ""),
    ],
)
def test_what_may_come_back(row: Any, says: str) -> None:
    why = refusal(row)
    assert (says in why) if says else not why


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, None),
        (b'{"a": 1}\n', '{"a": 1}\n'),
        ("Käse".encode(), "Käse"),
        (b"\xff\x00", "hex:ff00"),
        (b"\x1b[31mred", "hex:1b5b33316d726564"),
        (b"nul\x00", "hex:6e756c00"),
    ],
)
def test_bytes_are_shown_as_text_only_where_that_is_harmless(
    data: bytes | None, shown: str | None
) -> None:
    assert readable(data) == shown
