"""CloudEvents 1.0 as they travel on Kafka: structured JSON going out, structured or binary coming in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/cloudevents+json"
EVENT_BYTES_MAX = 256 * 1024
ID_CHARS_MAX = 200


class Incoming(msgspec.Struct, frozen=True, gc=False):
    """An envelope whose ``data`` is still undecoded bytes: its type decides which struct reads it."""

    id: str
    source: str
    type: str
    specversion: str = ""
    time: datetime | None = None
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An envelope we publish; ``data`` is one of the structs of ``shared.contracts``."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: Any
    specversion: str = SPEC_VERSION
    datacontenttype: str = "application/json"
