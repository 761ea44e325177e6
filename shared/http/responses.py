"""Answers as JSON without FastAPI's detour over Python dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def answer(
    model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A schema object as the answer; pydantic writes instants as RFC 3339 with Z."""
    content = model.__pydantic_serializer__.to_json(model)
    return Response(content, status, headers, "application/json")


def plain(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Builtins, structs, UUIDs and aware instants as the answer."""
    return Response(_encode(data), status, headers, "application/json")
