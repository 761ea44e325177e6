"""Which topic an event goes to and under which key, told from its envelope alone."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from shared.contracts.catalogue import TOPIC_OF
from shared.contracts.envelope import SPEC_VERSION


class _Addressee(msgspec.Struct, gc=False):
    customer_id: str | None = None
    order_id: str | None = None


class _Addressed(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    specversion: str
    data: _Addressee


class _Envelope(msgspec.Struct):
    id: str
    source: str
    type: str
    specversion: str
    data: msgspec.Raw = msgspec.Raw(b"")


_fast = msgspec.json.Decoder(_Addressed).decode
_slow = msgspec.json.Decoder(_Envelope).decode
_mapping = msgspec.json.Decoder(dict[str, Any]).decode


class Rejected(Exception):
    """A line that is no event of ours; the text says why."""


def route(line: bytes) -> tuple[str, bytes]:
    """Topic and key of one CloudEvent. Raises Rejected if its envelope is not in order.

    Only the envelope is judged here: what is wrong inside ``data`` is for the services to say, and
    their dead letters keep the original bytes.
    """
    try:
        event = _fast(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _route_slowly(line)
    topic = _topic(event.type, event.specversion, event.id, event.source)
    return topic, (event.data.customer_id or event.data.order_id or event.id).encode()


def _route_slowly(line: bytes) -> tuple[str, bytes]:
    try:
        event = _slow(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(f"no CloudEvent in JSON: {error}") from None
    topic = _topic(event.type, event.specversion, event.id, event.source)
    key: object = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = _mapping(bytes(event.data))
        key = data.get("customer_id") or data.get("order_id")
    return topic, (key if isinstance(key, str) else event.id).encode()


def _topic(event_type: str, specversion: str, event_id: str, source: str) -> str:
    if specversion != SPEC_VERSION:
        raise Rejected(f"specversion: must be {SPEC_VERSION!r}, is {specversion[:50]!r}")
    if not event_id:
        raise Rejected("id: is empty")
    if not source:
        raise Rejected("source: is empty")
    topic = TOPIC_OF.get(event_type)
    if topic is None:
        raise Rejected(f"type: {event_type[:100]!r} is unknown; known are {', '.join(_known())}")
    return topic


def _known() -> list[str]:
    own = ("treue.purchase.", "treue.activity.", "treue.customer.")
    return sorted(name for name in TOPIC_OF if name.startswith(own))
