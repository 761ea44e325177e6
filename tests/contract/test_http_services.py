"""What holds for every route of every service, on the apps as they are wired, without any server."""

from __future__ import annotations

import importlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from shared.http.app import PUBLIC, scopes_of
from tests.fixtures.http_probe import client_of

ROOT = Path(__file__).parents[2]
SERVICES = ("points", "tiers", "rewards")
SOME_ID = "6c1f6a0e-6d7b-5a55-9a3b-7d0a5f1d2c11"
OWN, FOREIGN = {"Authorization": "Bearer own"}, {"Authorization": "Bearer foreign"}
# Nobody listens on port 1: the servers are away.
AWAY = {"DATABASE": "postgresql://treue@127.0.0.1:1/treue", "KAFKA": "127.0.0.1:1"}


@dataclass(frozen=True)
class Case:
    service: str
    app: FastAPI
    client: httpx2.AsyncClient

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Every operation with its path filled in."""
        for path, methods in self.app.openapi()["paths"].items():
            names = re.findall(r"{(\w+)", path)
            filled = path.format(
                **{name: "17850" if name == "customer_id" else SOME_ID for name in names}
            )
            for method, operation in methods.items():
                assert method in {"get", "post"}, "a new method needs its own tests here"
                yield method, filled, operation

    def reads(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The operations that are plain questions."""
        return ((path, about) for method, path, about in self.operations() if method == "get")

    def writes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The operations that change something, each with the example of its body."""
        for _, path, about in self.operations():
            if any(
                parameter["name"] == "idempotency-key" for parameter in about.get("parameters", ())
            ):
                yield path, self.example(about)

    def example(self, about: dict[str, Any]) -> dict[str, Any]:
        """The body that the document shows for an operation; empty where it takes none."""
        if "requestBody" not in about:
            return {}
        shown = about["requestBody"]["content"]["application/json"]["schema"]
        name = next(iter(re.findall(r"schemas/(\w+)", json.dumps(shown))))
        example: dict[str, Any] = self.app.openapi()["components"]["schemas"][name]["examples"][0]
        return example

    def lists(self) -> list[str]:
        return [
            path
            for path, operation in self.reads()
            if any(parameter["name"] == "limit" for parameter in operation.get("parameters", ()))
        ]


@pytest.fixture(params=SERVICES)
async def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Case]:
    service = request.param
    others = [f"{name}:read" for name in SERVICES if name != service]
    keys = [
        {"id": name, "hash": sha256(name.encode()).hexdigest(), "scopes": scopes}
        for name, scopes in (("own", [f"{service}:read", f"{service}:write"]), ("foreign", others))
    ]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    settings = {
        **AWAY,
        "PROGRAM": str(ROOT / "programs" / "demo.yaml"),
        "KEYS_FILE": str(tmp_path / "keys.json"),
        "SECRET_FILE": str(tmp_path / "secret"),
        "PORT": "1",
        "WORKER_PORT": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"TREUE_{service.upper()}_{name}", value)
    wired = importlib.import_module(f"services.{service}.wiring").SERVICE
    app = wired.api(wired.settings())
    async with client_of(app) as client:
        yield Case(service, app, client)


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code", "request_id"}
    assert (body["status"], body["code"]) == (status, code)
    return body


async def test_every_route_demands_a_scope_of_its_service(case: Case) -> None:
    guarded = 0
    for route in case.app.routes:
        assert isinstance(route, Route)
        if isinstance(route, APIRoute):
            scopes = scopes_of(route)
            assert scopes, route.path
            assert all(scope.startswith(f"{case.service}:") for scope in scopes), route.path
            guarded += 1
        else:
            assert route.path in PUBLIC
    assert guarded


async def test_every_route_refuses_no_key_and_a_foreign_key(case: Case) -> None:
    for method, path, operation in case.operations():
        body = None if method == "get" else case.example(operation)
        answer = await case.client.request(method, path, json=body)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"]
        refused = await case.client.request(method, path, headers=FOREIGN, json=body)
        told = problem(refused, 403, "missing-scope")
        assert [told["scope"]] == operation["x-scopes"]


async def test_every_route_tells_when_the_database_is_away(case: Case) -> None:
    unavailable = 0
    for path, body in case.writes():
        answer = await case.client.post(path, headers={**OWN, "Idempotency-Key": "k"}, json=body)
        problem(answer, 503, "database-unavailable")
    for path, _ in case.reads():
        answer = await case.client.get(path, headers=OWN)
        if answer.status_code != 200:
            problem(answer, 503, "database-unavailable")
            assert int(answer.headers["retry-after"]) > 0
            unavailable += 1
    assert unavailable


async def test_every_write_needs_an_idempotency_key(case: Case) -> None:
    for path, body in case.writes():
        answer = await case.client.post(path, headers=OWN, json=body)
        problem(answer, 400, "idempotency-key-missing")


async def test_the_document_says_that_writes_need_a_key(case: Case) -> None:
    for _, _, about in case.operations():
        for parameter in about.get("parameters", ()):
            if parameter["name"] == "idempotency-key":
                assert parameter["required"]


async def test_the_docs_page_shows_every_body_and_every_answer(case: Case) -> None:
    page = (await case.client.get("/docs")).text
    bodies = [about for _, _, about in case.operations() if "requestBody" in about]
    assert page.count("<textarea") == len(bodies)
    for about in bodies:
        assert escape(json.dumps(case.example(about), indent=1, ensure_ascii=False)) in page
    # What FastAPI says of an answer that nobody has described, and what marks code in Markdown.
    assert "Successful Response" not in page
    assert "`" not in page
    shown = page.count("&quot;has_more&quot;: false")
    assert shown >= len(case.lists()), "every list has an example"


async def test_every_write_refuses_fields_it_does_not_know(case: Case) -> None:
    headers = {**OWN, "Idempotency-Key": "k"}
    for path, body in case.writes():
        if body:
            answer = await case.client.post(path, headers=headers, json={**body, "unheard_of": 1})
            problem(answer, 422, "validation-failed")


async def test_every_route_takes_head_and_tells_its_methods(case: Case) -> None:
    for path, _ in case.reads():
        got = await case.client.get(path, headers=OWN)
        head = await case.client.head(path, headers=OWN)
        assert (head.status_code, head.content) == (got.status_code, b"")
        told = await case.client.options(path)
        assert told.status_code == 204
        assert told.headers["allow"] in {"GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS, POST"}
        problem(await case.client.delete(path, headers=OWN), 405, "method-not-allowed")


@pytest.mark.parametrize("customer", ["x" * 201, "x" * 10_000, "a%00b", "%00"])
async def test_an_impossible_customer_is_refused_not_looked_up(case: Case, customer: str) -> None:
    paths = [path for path, _ in case.reads() if "/17850/" in path]
    assert paths
    for path in paths:
        answer = await case.client.get(path.replace("17850", customer), headers=OWN)
        problem(answer, 422, "validation-failed")


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many"])
async def test_every_list_bounds_its_pages(case: Case, limit: str) -> None:
    for path in case.lists():
        answer = await case.client.get(f"{path}?limit={limit}", headers=OWN)
        body = problem(answer, 422, "validation-failed")
        assert [error["field"] for error in body["errors"]] == ["limit"]


@pytest.mark.parametrize("cursor", ["x", "%00", "WzEsIngiLFtdXQ", "eyJ2IjoxfQ"])
async def test_every_list_refuses_a_foreign_cursor(case: Case, cursor: str) -> None:
    for path in case.lists():
        answer = await case.client.get(f"{path}?cursor={cursor}", headers=OWN)
        problem(answer, 422, "invalid-cursor")


@pytest.mark.parametrize("at", ["2011-12-09", "2011-12-09T12:50:00", "now", "1323435000"])
async def test_every_instant_needs_a_zone(case: Case, at: str) -> None:
    for path, operation in case.reads():
        if any(parameter["name"] == "at" for parameter in operation.get("parameters", ())):
            answer = await case.client.get(f"{path}?at={at}", headers=OWN)
            problem(answer, 422, "validation-failed")


async def test_alive_but_not_ready_while_the_servers_are_away(case: Case) -> None:
    alive = await case.client.get("/livez")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    ready = await case.client.get("/readyz")
    assert ready.status_code == 503
    body = ready.json()
    assert body["status"] == "not_ready"
    assert set(body["components"]) == {"postgres", "schema", "kafka"}
    assert {component["status"] for component in body["components"].values()} == {"down"}
    assert "127.0.0.1" not in ready.text


async def test_metrics_count_by_route_and_name_no_customer(case: Case) -> None:
    for method, path, _ in case.operations():
        await case.client.request(method, path, headers=OWN)
    shown = (await case.client.get("/metrics")).text
    for path, methods in case.app.openapi()["paths"].items():
        for method in methods:
            told = f'treue_http_requests_total{{method="{method.upper()}",route="{path}"'
            assert told in shown
    assert f'service="{case.service}"' in shown
    assert "17850" not in shown


async def test_the_document_has_examples_and_every_problem(case: Case) -> None:
    document = (await case.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert {"401", "403", "500", "503"} <= set(operation["responses"]), path
            success = min(operation["responses"])
            shown = operation["responses"][success]["content"]["application/json"]["schema"]
            schema = schemas[shown["$ref"].rpartition("/")[2]]
            if "data" in schema["properties"] and "examples" not in schema:
                item = schema["properties"]["data"]["items"]["$ref"]
                schema = schemas[item.rpartition("/")[2]]
            assert schema["examples"], path
            if "{customer_id}" in path:
                refused = operation["responses"]["404"]["content"]["application/problem+json"]
                assert "customer-not-found" in refused["examples"], path


async def test_the_docs_page_shows_every_route(case: Case) -> None:
    page = (await case.client.get("/docs")).text
    for path in case.app.openapi()["paths"]:
        assert path in page
    assert "http://" not in page
    assert "https://" not in page
