"""Bodies that msgspec reads, as it reads events: numbers as they are written, unknown fields passed over."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from shared.http.problems import Problem

T = TypeVar("T")
REF = "#/components/schemas/"

_MISSING = re.compile("Object missing required field `(.*)`")
_PATH = " - at `$"
# Schemas of such bodies by name, for the documents of the apps whose routes name them.
SCHEMAS: dict[str, dict[str, Any]] = {}


def described(struct: type[msgspec.Struct], example: dict[str, Any]) -> dict[str, Any]:
    """``openapi_extra=`` of a route whose body is this struct, with an example."""
    (shown,), parts = msgspec.json.schema_components([struct], ref_template=REF + "{name}")
    SCHEMAS.update(parts)
    SCHEMAS[struct.__name__]["examples"] = [example]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shown}}}}


def read(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read a body; raises the problem ``validation-failed`` with the path of the first field that does not fit."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(_PATH)
        field = path.rstrip("`").lstrip(".")
        if missing := _MISSING.fullmatch(reason):
            field, reason = f"{field}.{missing[1]}".lstrip("."), "is missing"
        raise refused(field or "body", reason) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refused("body", f"is not JSON: {error}") from None


def refused(field: str, reason: str) -> Problem:
    """Say which field of a body does not fit, and why."""
    errors = [{"field": field, "message": reason}]
    return Problem("validation-failed", f"The request does not fit: {field}: {reason}", errors)


def named_in(document: object) -> dict[str, dict[str, Any]]:
    """The schemas that a document refers to, with all that these refer to."""
    found: dict[str, dict[str, Any]] = {}
    missing = [document]
    while missing:
        text = msgspec.json.encode(missing.pop()).decode()
        for name in re.findall(rf'"{REF}(\w+)"', text):
            if name in SCHEMAS and name not in found:
                found[name] = SCHEMAS[name]
                missing.append(SCHEMAS[name])
    return found
