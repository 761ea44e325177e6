"""Problems, keys, pages, methods and documentation of the app factory, without any server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request

from shared.http.app import create_app, router
from shared.http.keys import KeyRing
from tests.fixtures.http_probe import ALL, TIERS_ONLY, client_of, probe_app, things

THING = "/v1/customers/17850/thing"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(probe_app(tmp_path)) as found:
        yield found


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"urn:treue:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def test_a_key_with_the_scope_is_let_in(client: httpx2.AsyncClient) -> None:
    answer = await client.get(THING, headers=ALL)
    assert answer.status_code == 200
    assert answer.json() == {"customer_id": "17850", "at": None}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "all-of-it", "Bearer wrong"]
)
async def test_no_or_a_wrong_key_is_unauthorized(
    client: httpx2.AsyncClient, authorization: str
) -> None:
    answer = await client.get(THING, headers={"Authorization": authorization})
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="treue"')


async def test_the_scheme_is_read_in_any_case(client: httpx2.AsyncClient) -> None:
    answer = await client.get(THING, headers={"Authorization": "bEARER all-of-it"})
    assert answer.status_code == 200


async def test_a_missing_scope_is_named(client: httpx2.AsyncClient) -> None:
    answer = await client.get(THING, headers=TIERS_ONLY)
    assert problem(answer, 403, "missing-scope")["scope"] == "points:read"
    assert 'scope="points:read"' in answer.headers["www-authenticate"]


async def test_the_key_is_asked_for_before_parameters_are_looked_at(
    client: httpx2.AsyncClient,
) -> None:
    problem(await client.get(f"{THING}?at=nonsense"), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_probes_and_documents_need_no_key(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_an_unknown_customer_is_a_problem(client: httpx2.AsyncClient) -> None:
    body = problem(
        await client.get("/v1/customers/unknown/thing", headers=ALL), 404, "customer-not-found"
    )
    assert body["instance"] == "/v1/customers/unknown/thing"


@pytest.mark.parametrize(
    ("sent", "read"),
    [("a%2Fb", "a/b"), ("%C3%A4%20%22", 'ä "'), ("x" * 200, "x" * 200), ("..%2F..", "../..")],
)
async def test_a_customer_id_may_be_any_text(
    client: httpx2.AsyncClient, sent: str, read: str
) -> None:
    answer = await client.get(f"/v1/customers/{sent}/thing", headers=ALL)
    assert answer.json()["customer_id"] == read


@pytest.mark.parametrize("sent", ["x" * 201, "x" * 10_000, "a%00b", ""])
async def test_an_id_nobody_can_have_is_refused(client: httpx2.AsyncClient, sent: str) -> None:
    answer = await client.get(f"/v1/customers/{sent}/thing", headers=ALL)
    body = problem(answer, 422, "validation-failed")
    assert [error["field"] for error in body["errors"]] == ["customer_id"]


@pytest.mark.parametrize(
    "at",
    [
        "2011-12-09",
        "2011-12-09T12:50:00",
        "2011-12-09T12:50:00 01:00",
        "1323435000",
        "2011-02-30T00:00:00Z",
        "2011-12-09T24:00:01Z",
        "0001-01-01T00:00:00%2B01:00",
        "9999-12-31T23:59:59-01:00",
        "%00",
        "",
    ],
)
async def test_an_instant_without_zone_or_off_the_calendar_is_refused(
    client: httpx2.AsyncClient, at: str
) -> None:
    body = problem(await client.get(f"{THING}?at={at}", headers=ALL), 422, "validation-failed")
    assert [error["field"] for error in body["errors"]] == ["at"]


@pytest.mark.parametrize(
    ("at", "read"),
    [
        ("2011-12-09T12:50:00Z", "2011-12-09T12:50:00+00:00"),
        ("2011-12-09t13:50:00.25%2B01:00", "2011-12-09T12:50:00.250000+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
async def test_an_instant_is_read_as_utc(client: httpx2.AsyncClient, at: str, read: str) -> None:
    assert (await client.get(f"{THING}?at={at}", headers=ALL)).json()["at"] == read


async def test_every_wrong_field_is_named(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/things?limit=0&cursor=" + "x" * 2000, headers=ALL)
    body = problem(answer, 422, "validation-failed")
    assert {error["field"] for error in body["errors"]} == {"limit", "cursor"}


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "", "9" * 50])
async def test_a_limit_out_of_range_is_refused(client: httpx2.AsyncClient, limit: str) -> None:
    problem(await client.get(f"/v1/things?limit={limit}", headers=ALL), 422, "validation-failed")


@pytest.mark.parametrize("limit", [1, 7, 20, 99, 100])
async def test_pages_show_everything_once_in_order(client: httpx2.AsyncClient, limit: int) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        page = (await client.get(f"/v1/things{query}", headers=ALL)).json()
        assert set(page) == {"data", "next_cursor", "has_more"}
        assert page["has_more"] == (page["next_cursor"] is not None)
        seen += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["data"]) == limit
    assert seen == list(range(99, -1, -1))


async def test_twenty_are_shown_unless_asked(client: httpx2.AsyncClient) -> None:
    assert len((await client.get("/v1/things", headers=ALL)).json()["data"]) == 20


@pytest.mark.parametrize("cursor", ["x", "%00", "ä", "eyJ9", "WzEsInRoaW5ncyIsWyJhIl1d"])
async def test_a_cursor_not_of_this_list_is_refused(
    client: httpx2.AsyncClient, cursor: str
) -> None:
    problem(await client.get(f"/v1/things?cursor={cursor}", headers=ALL), 422, "invalid-cursor")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/v1/things/", "/livez/x", "/%00"])
async def test_an_unknown_address_is_not_found(client: httpx2.AsyncClient, path: str) -> None:
    problem(await client.get(path, headers=ALL), 404, "not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
async def test_another_method_is_told_what_is_allowed(
    client: httpx2.AsyncClient, method: str
) -> None:
    answer = await client.request(method, THING, headers=ALL)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_options_tells_the_methods_without_a_key(client: httpx2.AsyncClient) -> None:
    answer = await client.options(THING)
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    problem(await client.options("/v1/nothing"), 404, "not-found")


async def test_head_is_get_without_a_body(client: httpx2.AsyncClient) -> None:
    got = await client.get(THING, headers=ALL)
    answer = await client.head(THING, headers=ALL)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == got.headers["content-length"]
    assert (await client.head(THING)).status_code == 401
    assert (await client.head("/readyz")).status_code == 200


async def test_an_error_of_ours_shows_no_internals(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/broken", headers=ALL)
    problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text


async def test_no_database_is_unavailable_and_says_when_to_come_back(
    client: httpx2.AsyncClient,
) -> None:
    answer = await client.get("/v1/database", headers=ALL)
    problem(answer, 503, "database-unavailable")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False)],
)
async def test_a_sane_request_id_is_kept(
    client: httpx2.AsyncClient,
    sent: str,
    kept: bool,  # noqa: FBT001
) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept
    assert answer.headers["x-request-id"]


async def test_requests_are_counted_by_route_method_and_status(client: httpx2.AsyncClient) -> None:
    await client.get(THING, headers=ALL)
    await client.head(THING, headers=ALL)
    await client.get("/v1/customers/unknown/thing", headers=ALL)
    await client.request("BREW", "/v1/nothing/at/all")
    shown = (await client.get("/metrics")).text
    route = "/v1/customers/{customer_id}/thing"
    for line in (
        f'treue_http_requests_total{{method="GET",route="{route}",status="200"}} 1.0',
        f'treue_http_requests_total{{method="HEAD",route="{route}",status="200"}} 1.0',
        f'treue_http_requests_total{{method="GET",route="{route}",status="404"}} 1.0',
        'treue_http_requests_total{method="OTHER",route="unmatched",status="404"} 1.0',
        f'treue_http_request_seconds_count{{route="{route}"}} 3.0',
        'treue_build_info{role="api",service="probe",version="1.2.3"} 1.0',
        'treue_pool_connections{state="idle"} 0.0',
    ):
        assert line in shown
    assert "17850" not in shown


async def test_the_document_declares_scopes_problems_and_examples(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["info"]["title"] == "Treue probe"
    operation = document["paths"]["/v1/customers/{customer_id}/thing"]["get"]
    assert operation["x-scopes"] == ["points:read"]
    assert operation["security"] == [{"ApiKey": []}]
    assert set(operation["responses"]) == {"200", "401", "403", "422", "500", "503"}
    refused = operation["responses"]["422"]["content"]["application/problem+json"]
    assert refused["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert refused["examples"]["validation-failed"]["value"]["errors"]
    assert "HTTPValidationError" not in json.dumps(document)


async def test_the_docs_page_needs_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "/v1/customers/{customer_id}/thing" in page
    assert "//" not in page.replace("<!doctype html>", "").replace("https://", "//x")


def test_a_route_without_a_scope_does_not_start() -> None:
    loose = router("loose")

    @loose.get("/v1/loose")
    async def unguarded(_: Request) -> None:
        return

    keys = KeyRing('{"keys": []}')
    with pytest.raises(ValueError, match="/v1/loose"):
        create_app(service="x", version="1", routers=[loose], keys=keys, readiness={})
    nested = router("nested")
    nested.include_router(things)
    with pytest.raises(ValueError, match="without a scope"):
        create_app(service="x", version="1", routers=[nested], keys=keys, readiness={})
