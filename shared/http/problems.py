"""Refusals over HTTP: RFC 9457 problems with stable codes, and the table of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import TreueError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:treue:problem:"
INSTANCE_CHARS_MAX = 500
ERRORS_MAX = 100
RETRY_AFTER_SECONDS = 2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of problem: its stable name, status and title, and what usually helps."""

    name: str
    status: int
    title: str
    help: str


CODES: dict[str, Code] = {
    code.name: code
    for code in (
        Code("unauthorized", 401, "Unauthorized", "Send `Authorization: Bearer <key>`."),
        Code("missing-scope", 403, "Missing scope", "Ask for a key with the scope it names."),
        Code("not-found", 404, "Not found", "Check the address; /docs lists all of them."),
        Code(
            "customer-not-found",
            404,
            "Customer not found",
            "No event of this customer has been processed yet.",
        ),
        Code("method-not-allowed", 405, "Method not allowed", "`Allow` lists what this takes."),
        Code("bad-request", 400, "Bad request", "The detail says what is wrong."),
        Code("length-required", 411, "Length required", "Send `Content-Length`, no chunks."),
        Code("body-too-large", 413, "Body too large", "A body has at most 256 KiB."),
        Code("validation-failed", 422, "Validation failed", "`errors` names each field."),
        Code(
            "invalid-cursor",
            422,
            "Invalid cursor",
            "Pass `next_cursor` of the same list unchanged, or start without a cursor.",
        ),
        Code("internal-error", 500, "Internal error", "Report the `request_id`."),
        Code(
            "database-unavailable",
            503,
            "Database unavailable",
            "Nothing is lost: try again after `Retry-After` seconds.",
        ),
    )
}


def define(name: str, status: int, title: str, help_text: str) -> str:
    """Add a service's own code to the table, once, at import."""
    CODES[name] = Code(name, status, title, help_text)
    return name


@dataclass(slots=True)
class Problem(TreueError):
    """An answer other than success; raise it anywhere below a route."""

    code: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class DatabaseUnavailable(Problem):
    """PostgreSQL is away, too slow, or has no free connection for us."""

    def __init__(self) -> None:
        super().__init__(
            "database-unavailable",
            "The database does not answer at the moment. Try again shortly.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


def customer_not_found(customer_id: str) -> Problem:
    """Nobody by this id is known to the service asked."""
    return Problem("customer-not-found", f"There is no customer {customer_id!r} here.")


def body(problem: Problem, instance: str, request_id: str) -> dict[str, Any]:
    """The problem as a JSON object."""
    code = CODES[problem.code]
    answer: dict[str, Any] = {
        "type": TYPE_PREFIX + code.name,
        "title": code.title,
        "status": code.status,
        "detail": problem.detail,
        "instance": instance,
        "code": code.name,
        "request_id": request_id,
    }
    if problem.errors:
        answer["errors"] = list(problem.errors)
    return {**answer, **problem.extra}


def response(problem: Problem, scope: Mapping[str, Any]) -> Response:
    """The problem as an HTTP answer to the request of this ASGI scope."""
    instance = quote(str(scope.get("path", ""))[:INSTANCE_CHARS_MAX], safe="/:@!$&'()*+,;=~-._")
    request_id = str(scope.get("state", {}).get("request_id", ""))
    return Response(
        msgspec.json.encode(body(problem, instance, request_id)),
        status_code=CODES[problem.code].status,
        media_type=MEDIA_TYPE,
        headers=dict(problem.headers),
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer a raised ``Problem``."""
    assert isinstance(error, Problem)  # noqa: S101 - registered for nothing else
    return response(error, request.scope)


async def on_validation(request: Request, error: Exception) -> Response:
    """Answer a query, path, header or body that does not fit, naming each field."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    errors = [_field_error(item) for item in error.errors()[:ERRORS_MAX]]
    count = f"{len(errors)} fields" if len(errors) > 1 else f"{errors[0]['field']}"
    detail = f"The request does not fit: {count}: {errors[0]['message']}"
    if len(errors) > 1:
        detail = f"The request does not fit: {count}, see errors."
    return response(Problem("validation-failed", detail, errors), request.scope)


def _field_error(item: Mapping[str, Any]) -> dict[str, str]:
    place, *path = item["loc"]
    name = ".".join(str(part) for part in path) or str(place)
    message = str(item["msg"]).removeprefix("Value error, ")
    return {"field": name, "message": message}


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: unknown addresses and methods."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        problem = Problem("not-found", "There is nothing at this address.")
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = allowed_methods(request)
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
        problem = Problem(
            "method-not-allowed",
            f"This address takes {allowed}.",
            headers={**headers, "Allow": allowed},
        )
    elif error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        problem = Problem("bad-request", str(error.detail), headers=headers)
    else:
        problem = Problem("internal-error", "Something went wrong on our side.")
    return response(problem, request.scope)


def allowed_methods(request: Request) -> str:
    """Every method that some route takes at this path, for ``Allow``."""
    methods: set[str] = {"OPTIONS"}
    for route in request.app.state.routes:
        if route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def declare(*names: str) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route: each problem it may answer, with an example, grouped by status."""
    by_status: dict[int | str, list[Code]] = {}
    for name in names:
        by_status.setdefault(CODES[name].status, []).append(CODES[name])
    return {status: _declared(codes) for status, codes in by_status.items()}


def _declared(codes: Sequence[Code]) -> dict[str, Any]:
    return {
        "description": " · ".join(f"`{code.name}`: {code.help}" for code in codes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code.name: {"value": _example(code)} for code in codes},
            }
        },
    }


def _example(code: Code) -> dict[str, Any]:
    problem = Problem(code.name, code.help)
    if code.name == "validation-failed":
        problem.errors = ({"field": "limit", "message": "Input should be less than 101"},)
    return body(problem, "/v1/…", "5f0c1d2e3a4b5c6d")


SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457. `code` is stable; `detail` is for people and may change.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": f"{TYPE_PREFIX}<code>"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "code": {"type": "string"},
        "request_id": {"type": "string", "description": "Also in the header X-Request-Id."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
