"""Kafka record → event: CloudEvents in structured or binary mode, typed, or the reason why not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from shared.contracts.envelope import EVENT_BYTES_MAX, ID_CHARS_MAX, SPEC_VERSION, Incoming
from shared.errors import Poison
from shared.events.model import Event, Record, Route
from shared.ids import event_key

_envelope = msgspec.json.Decoder(Incoming).decode
_BINARY_REQUIRED = ("ce_id", "ce_source", "ce_type", "ce_specversion")
_ERROR_PATH = " - at `$"
_MISSING = re.compile("Object missing required field `(.*)`")


class Decoder:
    """Decodes the records of one topic by the routes that name it; types in ``ignored`` give None."""

    def __init__(self, topic: str, routes: Iterable[Route], ignored: frozenset[str]) -> None:
        self._topic = topic
        self._ignored = ignored
        own = [route for route in routes if route.topic == topic]
        self._decoders: Mapping[str, Any] = {
            route.event_type: msgspec.json.Decoder(route.struct).decode for route in own
        }
        self._usual = {r.event_type for r in own if r.struct is own[0].struct}
        self._decode_usual: Callable[[bytes], Any] = msgspec.json.Decoder(
            _whole(own[0].struct)
        ).decode

    def __call__(self, record: Record) -> Event[Any] | None:
        """The event, or None for a type that this service has no use for. Raises Poison."""
        return self._usual_event(record) or self._event(record)

    def _usual_event(self, record: Record) -> Event[Any] | None:
        """Read envelope and data of the topic's first struct in one go, or None for anything that is not quite so.

        That is half the work of reading the envelope, finding where ``data`` ends, and reading that again.
        """
        value = record.value
        if not value or len(value) > EVENT_BYTES_MAX or (record.headers and _is_binary(record)):
            return None
        try:
            whole = self._decode_usual(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        event_id, source = whole.id, whole.source
        if (
            whole.type not in self._usual
            or whole.specversion != SPEC_VERSION
            or not (0 < len(event_id) <= ID_CHARS_MAX and 0 < len(source) <= ID_CHARS_MAX)
            or "\x00" in event_id
            or "\x00" in source
        ):
            return None
        return Event(event_key(source, event_id), source, event_id, whole.type, whole.data, record)

    def _event(self, record: Record) -> Event[Any] | None:
        """Read envelope and data one after the other, and say what is wrong with either."""
        value = record.value
        if not value:
            raise Poison("", "the record has no value: an event is expected")
        if len(value) > EVENT_BYTES_MAX:
            raise Poison(
                "", f"the event has {len(value)} bytes; at most {EVENT_BYTES_MAX} are allowed"
            )
        envelope = _binary(record) if _is_binary(record) else _structured(value)
        _check(envelope)
        decode = self._decoders.get(envelope.type)
        if decode is None:
            if envelope.type in self._ignored:
                return None
            raise self._unknown(envelope.type)
        raw = bytes(envelope.data)
        if not raw:
            raise Poison("data", "is missing")
        try:
            data = decode(raw)
        except msgspec.ValidationError as error:
            raise _poison(error, "data") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Poison("data", str(error)) from None
        return Event(
            key=event_key(envelope.source, envelope.id),
            source=envelope.source,
            id=envelope.id,
            type=envelope.type,
            data=data,
            record=record,
        )

    def _unknown(self, event_type: str) -> Poison:
        known = ", ".join(sorted(self._decoders))
        return Poison(
            "type", f"unknown type {event_type[:200]!r} on {self._topic}; known here: {known}"
        )


def time_of(record: Record) -> datetime | None:
    """Read the envelope's own ``time`` of a record that has been decoded; few events need it."""
    if _is_binary(record):
        text = next((value for name, value in record.headers if name == "ce_time"), b"")
        try:
            return msgspec.convert(text.decode(), datetime) if text else None
        except (msgspec.ValidationError, UnicodeDecodeError):
            raise Poison("ce_time", "is no instant as 2010-12-01T08:26:00Z") from None
    return _structured(record.value or b"").time


def _whole(data: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """``Incoming`` with the data already typed."""
    fields = [field for field in msgspec.structs.fields(Incoming) if field.name != "data"]
    required = [(field.name, field.type) for field in fields if field.required]
    optional = [(field.name, field.type, field.default) for field in fields if not field.required]
    return msgspec.defstruct("Whole", [*required, ("data", data), *optional], frozen=True, gc=False)


def _is_binary(record: Record) -> bool:
    return any(name in {"ce_type", "ce_id"} for name, _ in record.headers)


def _structured(value: bytes) -> Incoming:
    try:
        return _envelope(value)
    except msgspec.ValidationError as error:
        raise _poison(error, "") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Poison("", f"not a JSON event: {error}") from None


def _binary(record: Record) -> Incoming:
    try:
        headers = {
            name: value.decode("utf-8") for name, value in record.headers if value is not None
        }
    except UnicodeDecodeError:
        raise Poison("headers", "a header is not UTF-8") from None
    for name in _BINARY_REQUIRED:
        if name not in headers:
            raise Poison(name, "is missing (CloudEvents binary mode)")
    return Incoming(
        id=headers["ce_id"],
        source=headers["ce_source"],
        type=headers["ce_type"],
        specversion=headers["ce_specversion"],
        data=msgspec.Raw(record.value or b""),
    )


def _check(envelope: Incoming) -> None:
    if envelope.specversion != SPEC_VERSION:
        raise Poison("specversion", f"must be {SPEC_VERSION!r}, is {envelope.specversion[:50]!r}")
    for name in ("id", "source", "type"):
        text = getattr(envelope, name)
        if not text:
            raise Poison(name, "is missing or empty")
        if len(text) > ID_CHARS_MAX:
            raise Poison(name, f"has {len(text)} characters; at most {ID_CHARS_MAX} are allowed")
        if "\x00" in text:
            raise Poison(name, "contains a NUL character")


def _poison(error: msgspec.ValidationError, prefix: str) -> Poison:
    """Msgspec says ``Expected `str`, got `int` - at `$.lines[0].sku```: split into field and reason."""
    reason, _, path = str(error).partition(_ERROR_PATH)
    field = prefix + path.rstrip("`")
    missing = _MISSING.fullmatch(reason)
    if missing:
        field, reason = f"{field}.{missing[1]}", "is missing"
    return Poison(field.lstrip("."), reason)
