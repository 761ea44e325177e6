"""Identities: every id is a function of what it names, so a repetition is recognisable anywhere."""

from __future__ import annotations

from hashlib import blake2b, sha1
from os import urandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID
else:
    # A subclass in C that PostgreSQL's arrays take as it is: made in a tenth of the time of its parent.
    from asyncpg.pgproto.pgproto import UUID

NAMESPACE = UUID("6c1f6a0e-6d7b-5a55-9a3b-7d0a5f1d2c11")

_NAMESPACE_BYTES = NAMESPACE.bytes


def digest_uuid(*parts: str) -> UUID:
    """128-bit hash of the parts as a UUID; quicker than uuid5, for keys that never leave our tables.

    Lengths are hashed along, so ("ab", "c") and ("a", "bc") differ.
    """
    return _uuid(blake2b(_text(parts), digest_size=16).digest())


def event_key(source: str, event_id: str) -> UUID:
    """The identity of an event: equal CloudEvents ``source`` and ``id`` is the same event."""
    text = f"5:event{len(source)}:{source}{len(event_id)}:{event_id}"
    return _uuid(blake2b(text.encode(), digest_size=16).digest())


def derive(*parts: str) -> UUID:
    """UUIDv5 of the parts in our namespace, for ids that others see."""
    digest = bytearray(sha1(_NAMESPACE_BYTES + _text(parts), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return _uuid(bytes(digest))


def random_uuid() -> UUID:
    """A UUIDv4, of the class that is quick to write."""
    digest = bytearray(urandom(16))
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    return _uuid(bytes(digest))


def _text(parts: tuple[str, ...]) -> bytes:
    text = ""
    for part in parts:
        text += f"{len(part)}:{part}"
    return text.encode()


if TYPE_CHECKING:

    def _uuid(digest: bytes) -> UUID: ...
else:
    _uuid = UUID
