"""What of an entry goes into the chain: 16 bytes that no other content has.

Writer and verifier call the same function, the one with what it is about to store, the other with what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any

import msgspec

DIGEST_BYTES = 16
# The one column that can be written in several ways.
NET_SPEND = 18
# Instants come out in UTC and ids as their bytes, whatever zone or class they were given in.
_encode = msgspec.msgpack.Encoder(uuid_format="bytes", decimal_format="string").encode


def digest(entry: Sequence[Any]) -> bytes:
    """The digest of an entry's columns in their order; columns at its end that are empty do not count.

    So a later version may add columns at the end, and what was written before keeps its digest.
    """
    end = len(entry)
    while entry[end - 1] is None:
        end -= 1
    spend = str(entry[NET_SPEND])
    # PostgreSQL keeps neither a positive exponent nor the sign of zero.
    if "+" in spend or spend[:2] == "-0":
        entry = [*entry[:NET_SPEND], _stored(entry[NET_SPEND]), *entry[NET_SPEND + 1 :]]
    return sha256(_encode(entry[:end])).digest()[:DIGEST_BYTES]


def _stored(value: Decimal) -> Decimal:
    """A number as PostgreSQL gives it back."""
    return Decimal(f"{value or value.copy_abs():f}")


def digests_of(link: bytes) -> list[bytes]:
    """The digests that a link holds."""
    return [link[at : at + DIGEST_BYTES] for at in range(0, len(link), DIGEST_BYTES)]
