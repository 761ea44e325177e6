"""The app factory: every service's API gets the same health, metrics, docs, keys and problems.

What routes find in ``request.app.state``: ``pool`` (asyncpg, put there by the service's lifespan),
``keys`` (KeyRing), ``metrics`` (Metrics), ``service``, ``bell`` (Bell), ``groups`` (commands that wait, by kind),
and whatever else ``state`` names, such as ``program``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from shared.http import bodies, docs, problems, responses
from shared.http.bell import Bell
from shared.http.health import Check, Readiness
from shared.http.keys import KeyRing, Require
from shared.http.middleware import Observed
from shared.telemetry.metrics import CONTENT_TYPE, Metrics

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

IDEMPOTENCY_KEY = "idempotency-key"
# What needs no key: probes, scrapers, readers of the docs. Nothing here shows a customer.
PUBLIC = ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs")


def router(*tags: str) -> APIRouter:
    """A router whose routes declare the problems that each of them may answer."""
    common = problems.declare(
        "unauthorized",
        "missing-scope",
        "validation-failed",
        "internal-error",
        "database-unavailable",
    )
    return APIRouter(tags=list(tags), responses=common)


def create_app(
    *,
    service: str,
    version: str,
    routers: Iterable[APIRouter],
    keys: KeyRing,
    readiness: Mapping[str, Check],
    metrics: Metrics | None = None,
    lifespan: Lifespan | None = None,
    state: Mapping[str, Any] | None = None,
) -> FastAPI:
    """The API of one service; raises ``ValueError`` for a route that asks for no scope."""
    metrics = metrics or Metrics(service=service, role="api", version=version)
    app = FastAPI(
        title=f"Treue {service}",
        version=version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.keys, app.state.metrics, app.state.pool = keys, metrics, None
    app.state.service, app.state.bell, app.state.groups = service, Bell(), {}
    _watch_pool(app, metrics)
    for name, value in (state or {}).items():
        setattr(app.state, name, value)
    # Their routes as they are and not include_router: that would match each request twice.
    app.router.routes = [
        *_operational_routes(metrics, readiness),
        Route("/openapi.json", _openapi),
        Route("/docs", _docs),
        *(route for part in routers for route in _guarded(part)),
    ]
    app.state.routes = app.routes
    app.add_exception_handler(problems.Problem, problems.on_problem)
    app.add_exception_handler(RequestValidationError, problems.on_validation)
    app.add_exception_handler(HTTPException, problems.on_http)
    app.add_middleware(Observed, metrics=metrics)
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign] # FastAPI's own way to do it
    return app


def _guarded(part: APIRouter) -> list[BaseRoute]:
    """The routes of a router, each of which asks for a scope: what cannot be checked is refused too."""
    for route in part.routes:
        if not isinstance(route, APIRoute) or not scopes_of(route):
            raise ValueError(f"a route without a scope: {getattr(route, 'path', route)}")
    return part.routes


def api_routes(app: FastAPI) -> list[APIRoute]:
    """The routes that need a key: all but the operational ones."""
    return [route for route in app.routes if isinstance(route, APIRoute)]


def scopes_of(route: APIRoute) -> set[str]:
    """The scopes that a route demands."""

    def walk(dependant: Dependant) -> set[str]:
        own = {dependant.call.scope} if isinstance(dependant.call, Require) else set()
        return own.union(*(walk(inner) for inner in dependant.dependencies))

    return walk(route.dependant)


def _operational_routes(metrics: Metrics, checks: Mapping[str, Check]) -> list[Route]:
    """/livez, /readyz and /metrics."""
    readiness = Readiness(checks)

    async def livez(_: Request) -> Response:
        return responses.plain({"status": "ok"})

    async def readyz(_: Request) -> Response:
        ready, report = await readiness.report()
        return responses.plain(report, 200 if ready else 503, {"Cache-Control": "no-store"})

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", show_metrics),
    ]


def _watch_pool(app: FastAPI, metrics: Metrics) -> None:
    gauge = metrics.gauge("treue_pool_connections", "Connections to PostgreSQL.", ("state",))

    def idle() -> int:
        return app.state.pool.get_idle_size() if app.state.pool else 0

    def used() -> int:
        return app.state.pool.get_size() - idle() if app.state.pool else 0

    gauge.labels("idle").set_function(idle)
    gauge.labels("used").set_function(used)


async def _openapi(request: Request) -> Response:
    return responses.plain(request.app.openapi())


async def _docs(request: Request) -> Response:
    return HTMLResponse(docs.page(request.app.openapi()))


def _schema(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problems.SCHEMA
        by_id = {route.unique_id: route for route in api_routes(app)}
        for operations in schema.get("paths", {}).values():
            for operation in operations.values():
                scopes = sorted(scopes_of(by_id[operation["operationId"]]))
                operation["x-scopes"] = scopes
                for parameter in operation.get("parameters", ()):
                    # The routes take it as optional, to answer with a problem of its own where it is missing.
                    parameter["required"] |= parameter["name"] == IDEMPOTENCY_KEY
        schema["components"]["schemas"] |= bodies.named_in(schema["paths"])
        schema.get("components", {}).get("schemas", {}).pop("HTTPValidationError", None)
        app.openapi_schema = schema
    return app.openapi_schema
