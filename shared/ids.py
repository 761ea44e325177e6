"""Identities: every id is a function of what it names, so a repetition is recognisable anywhere."""

from __future__ import annotations

from hashlib import blake2b
from uuid import UUID, uuid5

NAMESPACE = UUID("6c1f6a0e-6d7b-5a55-9a3b-7d0a5f1d2c11")


def digest_uuid(*parts: str) -> UUID:
    """128-bit hash of the parts as a UUID; quicker than uuid5, for keys that never leave our tables.

    Lengths are hashed along, so ("ab", "c") and ("a", "bc") differ.
    """
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return UUID(bytes=blake2b(text.encode(), digest_size=16).digest())


def event_key(source: str, event_id: str) -> UUID:
    """The identity of an event: equal CloudEvents ``source`` and ``id`` is the same event."""
    return digest_uuid("event", source, event_id)


def derive(*parts: str) -> UUID:
    """UUIDv5 of the parts in our namespace, for ids that others see."""
    return uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))
