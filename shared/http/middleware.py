"""Around every request: its id, its metrics, HEAD as GET without body, no internals in errors."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http.problems import Problem, response
from shared.telemetry.metrics import Metrics

# As much as an event may have; a body is read before anybody asks for its key.
BODY_BYTES_MAX = 256 * 1024
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}", re.ASCII)

log = structlog.get_logger(__name__)


class Observed:
    """Pure ASGI: Starlette's BaseHTTPMiddleware would cost a task and a stream for each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.counter(
            "treue_http_requests_total", "Answers given.", ("method", "route", "status")
        )
        self._seconds = metrics.histogram(
            "treue_http_request_seconds", "From the request's head to the answer's end.", ("route",)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        method = scope["method"]
        answer = _Answer(send, request_id.encode(), head=method == "HEAD")
        if answer.head:
            scope["method"] = "GET"
        try:
            refused = _too_much(scope)
            if refused is not None:
                await response(refused, scope)(scope, receive, answer.send)
            else:
                await self._app(scope, receive, answer.send)
        except Exception:
            log.exception("request failed", request_id=request_id, path=scope["path"])
            if answer.status:
                raise
            problem = Problem("internal-error", "Something went wrong on our side.")
            await response(problem, scope)(scope, receive, answer.send)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            label = method if method in METHODS else "OTHER"
            self._requests.labels(label, route, str(answer.status or 499)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - began)


class _Answer:
    """Passes the answer on, with the request's id, without a body where HEAD was asked."""

    __slots__ = ("_id", "_send", "head", "status")

    def __init__(self, send: Send, request_id: bytes, *, head: bool) -> None:
        self._send = send
        self._id = request_id
        self.head = head
        self.status = 0

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._id)]
        elif self.head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)


def _too_much(scope: Scope) -> Problem | None:
    """Why a request's body is not read at all: it is too long, or does not say how long it is."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"content-length" and int(value) > BODY_BYTES_MAX:
            return Problem("body-too-large", f"A body has at most {BODY_BYTES_MAX // 1024} KiB.")
        if name == b"transfer-encoding":
            return Problem("length-required", "Send the body with its Content-Length.")
    return None


def _request_id(scope: Scope) -> str:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return secrets.token_hex(8)
