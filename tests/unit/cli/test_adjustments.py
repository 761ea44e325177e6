"""Reading corrections from CSV: all that is wrong is told at once, with its line."""

from __future__ import annotations

import pytest

from shared.cli.adjustments import MistakesError, Row, read

HEAD = "customer_id,points,reason_code,reason,expires_at,key\n"


def rows(text: str, batch: str | None = None) -> list[Row]:
    return read(text.encode(), batch)


def mistakes(text: str | bytes, batch: str | None = None) -> list[tuple[int, str]]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(MistakesError) as caught:
        read(content, batch)
    return [(mistake.line, mistake.what) for mistake in caught.value.mistakes]


def test_a_line_is_a_correction() -> None:
    text = (
        HEAD
        + '17850,100,goodwill,"parcel late, again",2027-12-01T00:00:00Z,k1\n17850,-20,error,typo,,k2\n'
    )
    assert rows(text) == [
        Row(2, "17850", 100, "goodwill", "parcel late, again", "2027-12-01T00:00:00Z", "k1"),
        Row(3, "17850", -20, "error", "typo", None, "k2"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_spreadsheets_write_is_read(delimiter: str, end: str, mark: str) -> None:
    text = mark + (HEAD + "c,5,goodwill,Grüße,,k\n").replace(",", delimiter).replace("\n", end)
    assert [(row.customer_id, row.points, row.reason) for row in rows(text)] == [("c", 5, "Grüße")]


@pytest.mark.parametrize(
    "points", ["1.5", "1,000", "1.000", "", "abc", "0", "١٢", "--5", "99999999999"]
)
def test_only_whole_points_other_than_zero(points: str) -> None:
    ((line, what),) = mistakes(HEAD + f'c,"{points}",goodwill,x,,k\n')
    assert line == 2
    assert what.startswith("points")


def test_every_mistake_is_told_with_its_line() -> None:
    text = (
        HEAD
        + "c,5,goodwill,x,,k\n,5,goodwill,x,,k2\nc,x,goodwill,x,,k3\nc,5,goodwill,x,,k\nc,5,g,x,,,,\n"
    )
    assert mistakes(text) == [
        (3, "customer_id is empty"),
        (4, "points: 'x' is not a whole number such as 100 or -20"),
        (5, "key k is that of line 2 too"),
        (6, "has more values than there are columns"),
    ]


def test_lines_are_counted_as_an_editor_does() -> None:
    text = HEAD + 'c,5,goodwill,"two\nlines",,k\n\nc,x,goodwill,x,,k2\n'
    assert [line for line, _ in mistakes(text)] == [5]


def test_columns_must_be_known_and_there() -> None:
    told = [what for _, what in mistakes("customer,points,reason_code,reason,key,key\n")]
    assert told[:3] == [
        "the column customer_id is missing",
        "the column customer is unknown",
        "the column key is there twice",
    ]


@pytest.mark.parametrize(
    "content",
    [b"", HEAD.encode(), HEAD.encode() + b"c,5,g\xff,x,,k\n", HEAD.encode() + b'c,5,g,"x,,k\n'],
)
def test_what_is_no_list_is_refused(content: bytes) -> None:
    assert mistakes(content)


def test_without_keys_a_batch_has_to_be_named() -> None:
    text = "customer_id,points,reason_code,reason\nc,5,goodwill,x\nc,5,goodwill,x\n"
    assert "--batch" in mistakes(text)[0][1]
    first, second = rows(text, "april")
    assert first.key != second.key
    assert [row.key for row in rows(text, "april")] == [first.key, second.key]
    assert {row.key for row in rows(text, "may")}.isdisjoint({first.key, second.key})


def test_a_line_keeps_its_key_when_others_come_and_go() -> None:
    head = "customer_id,points,reason_code,reason\n"
    (alone,) = rows(head + "c,5,goodwill,x\n", "b")
    among = rows(head + "d,1,goodwill,y\nc,5,goodwill,x\n", "b")[1]
    assert among.key == alone.key
