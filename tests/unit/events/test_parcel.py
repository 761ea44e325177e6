"""Packing what waits in the outbox."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.events.parcel import BYTES_MIN, pack, unpack, worth_it


@given(st.lists(st.binary(max_size=50)))
async def test_what_is_packed_is_unpacked_as_it_was(payloads: list[bytes]) -> None:
    assert unpack([], await pack(payloads)) == payloads


def test_what_was_not_packed_is_there_as_it_is() -> None:
    assert unpack([b"a", b"b"], None) == [b"a", b"b"]


def test_few_bytes_are_not_worth_it() -> None:
    half = b"x" * (BYTES_MIN // 2)
    assert worth_it([half, half])
    assert not worth_it([half])
    assert not worth_it([half + half])
