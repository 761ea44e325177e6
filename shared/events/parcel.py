"""Many outgoing events of one transaction as one piece: what waits in the outbox is a sixth as large.

The events of a batch repeat their names and most of their values. PostgreSQL's own compression costs more than it
saves (0000_common.sql), because it stands in the way of the statement; this is done beside the loop, in another
thread, while the next batch is decided.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

import msgspec

# Below, a thread is not worth it: the batch of a trickle has some kilobytes.
BYTES_MIN = 64 * 1024
# What the quickest level leaves over, the others hardly take away.
LEVEL = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def worth_it(payloads: Sequence[bytes]) -> bool:
    """Whether they are enough to be packed."""
    return len(payloads) > 1 and sum(map(len, payloads)) >= BYTES_MIN


async def pack(payloads: Sequence[bytes]) -> bytes:
    """Make one piece of them, without holding up the loop."""
    return await asyncio.to_thread(_pack, payloads)


def _pack(payloads: Sequence[bytes]) -> bytes:
    return zlib.compress(_encode(payloads), LEVEL)


def unpack(payloads: Sequence[bytes], packed: bytes | None) -> Sequence[bytes]:
    """The payloads of a row of the outbox, whichever way it holds them."""
    return payloads if packed is None else _decode(zlib.decompress(packed))
