"""Writes over HTTP on a real PostgreSQL: once per key, whatever is repeated, raced or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx2
import msgspec
import pytest
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from shared import clock
from shared.db import idempotency, pool
from shared.db.types import Pool
from shared.events.model import Work
from shared.http import commands, problems
from shared.http.app import create_app, router
from shared.http.commands import Answer, caller, command, write
from shared.http.keys import KeyRing
from tests.fixtures.http_probe import client_of, write_keys

pytestmark = pytest.mark.servers

ANNA, BERT, READER = ({"Authorization": f"Bearer {name}"} for name in ("anna", "bert", "reader"))
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}

Step = Callable[[Work], Awaitable[None]]


class Deed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    customer_id: str
    factor: float = 1


class Done(BaseModel):
    number: int
    by: str


class Told(msgspec.Struct):
    customer_id: str


@dataclass
class Deeds:
    """A route that writes an account, an event and its answer, with a hook in the middle of it."""

    pool: Pool
    client: httpx2.AsyncClient
    steps: list[Step] = field(default_factory=list)

    async def post(self, body: object = None, *, who: dict[str, str] = ANNA, key: dict[str, str] = KEY,
                   path: str = "/v1/deeds") -> httpx2.Response:  # fmt: skip
        return await self.client.post(
            path, json=body or {"customer_id": "c1"}, headers={**who, **key}
        )

    async def counts(self) -> tuple[int, int, int]:
        """Effects, events, kept answers."""
        row = await self.pool.fetchrow(
            "SELECT (SELECT count(*) FROM accounts), (SELECT coalesce(sum(cardinality(keys)), 0) FROM outbox),"
            " (SELECT count(*) FROM idempotency)"
        )
        return tuple(row or ())


@pytest.fixture
async def deeds(points_db: str, tmp_path: Path) -> AsyncIterator[Deeds]:
    routes = router("deeds")
    write_keys(
        tmp_path / "keys.json",
        (
            ("anna", "anna", ["points:write"]),
            ("bert", "bert", ["points:write"]),
            ("reader", "reader", ["points:read"]),
        ),
    )
    steps: list[Step] = []

    @routes.post("/v1/deeds", dependencies=write("points:write"),
                 responses=problems.declare(*commands.PROBLEMS))  # fmt: skip
    @routes.post("/v1/other-deeds", dependencies=write("points:write"))
    async def do(request: Request, body: Deed) -> Response:
        async def run(work: Work) -> Answer:
            number = await work.conn.fetchval(
                "INSERT INTO accounts (customer_id) VALUES ($1 || gen_random_uuid()) RETURNING account_id",
                body.customer_id,
            )
            for topic in ("treue.points", "treue.tiers", "treue.points"):
                told = Told(body.customer_id)
                work.publish(
                    topic, body.customer_id, f"{topic}.done.v1", str(number), work.now, told
                )
            for step in steps[:1]:
                steps.remove(step)
                await step(work)
            return Answer(201, Done(number=number, by=caller(request)), {"Location": f"/{number}"})

        return await command(request, run)

    async with await pool.create(points_db, name="test", size=4) as connections:
        app = create_app(
            service="points",
            version="0",
            routers=[routes],
            keys=KeyRing(tmp_path / "keys.json"),
            readiness={},
            state={"pool": connections},
        )
        async with client_of(app) as client:
            yield Deeds(connections, client, steps)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_repetition_gets_the_very_bytes_of_the_first_answer(deeds: Deeds) -> None:
    first = await deeds.post()
    again = await deeds.post()
    assert first.status_code == again.status_code == 201
    assert first.content == again.content
    assert first.json()["by"] == "anna"
    assert first.headers["location"] == again.headers["location"]
    assert commands.REPLAYED not in first.headers
    assert again.headers[commands.REPLAYED] == "true"
    assert await deeds.counts() == (1, 3, 1)


async def test_events_go_out_by_topic_and_in_order(deeds: Deeds) -> None:
    await deeds.post()
    rows = await deeds.pool.fetch("SELECT topic, payloads FROM outbox ORDER BY topic")
    assert [(row["topic"], len(row["payloads"])) for row in rows] == [
        ("treue.points", 2),
        ("treue.tiers", 1),
    ]
    assert b'"source":"/services/points"' in rows[0]["payloads"][0]


async def test_spaces_quotes_and_the_order_of_fields_are_no_other_request(deeds: Deeds) -> None:
    first = await deeds.post({"customer_id": "c", "factor": 1.5})
    headers = {**ANNA, "Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    text = '{ "factor": 1.5,\n "customer_id": "c" }'
    headers["content-type"] = "application/json"
    again = await deeds.client.post("/v1/deeds", content=text, headers=headers)
    assert again.content == first.content
    other = await deeds.client.post("/v1/deeds", content=text.replace("1.5", "1.50000000000000001"),
                                    headers=headers)  # fmt: skip
    assert code(other) == (422, "idempotency-key-reused")


async def test_another_body_under_the_same_key_is_refused(deeds: Deeds) -> None:
    await deeds.post()
    assert code(await deeds.post({"customer_id": "c2"})) == (422, "idempotency-key-reused")
    assert await deeds.counts() == (1, 3, 1)


async def test_keys_of_clients_and_of_routes_do_not_meet(deeds: Deeds) -> None:
    numbers = {
        (await deeds.post(who=who, path=path)).json()["number"]
        for who in (ANNA, BERT)
        for path in ("/v1/deeds", "/v1/other-deeds")
    }
    assert len(numbers) == 4


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ({}, "idempotency-key-missing"),
        ({"Idempotency-Key": ""}, "idempotency-key-invalid"),
        ({"Idempotency-Key": '""'}, "idempotency-key-invalid"),
        ({"Idempotency-Key": '"open'}, "idempotency-key-invalid"),
        ({"Idempotency-Key": "x" * 256}, "idempotency-key-invalid"),
    ],
)
async def test_no_key_no_write(deeds: Deeds, key: dict[str, str], name: str) -> None:
    assert code(await deeds.post(key=key)) == (400, name)
    assert await deeds.counts() == (0, 0, 0)


async def test_the_scope_comes_before_the_key(deeds: Deeds) -> None:
    assert code(await deeds.post(who=READER, key={})) == (403, "missing-scope")


async def test_while_the_first_is_under_way_the_second_is_told_so(deeds: Deeds) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Work) -> None:
        inside.set()
        await go_on.wait()

    deeds.steps.append(wait)
    first = asyncio.create_task(deeds.post())
    await inside.wait()
    second = await deeds.post()
    assert code(second) == (409, "idempotency-key-in-use")
    assert int(second.headers["retry-after"]) > 0
    assert (await deeds.post(who=BERT)).status_code == 201
    go_on.set()
    assert (await first).status_code == 201
    assert (await deeds.post()).content == (await first).content


async def test_a_refused_command_changes_nothing_and_may_be_tried_again(deeds: Deeds) -> None:
    async def refuse(_: Work) -> None:
        raise problems.customer_not_found("c1")

    deeds.steps.append(refuse)
    assert code(await deeds.post()) == (404, "customer-not-found")
    assert await deeds.counts() == (0, 0, 0)
    assert (await deeds.post()).status_code == 201


async def test_cut_off_in_the_middle_nothing_is_half_done(deeds: Deeds) -> None:
    async def cut(work: Work) -> None:
        process = await work.conn.fetchval("SELECT pg_backend_pid()")
        await deeds.pool.execute("SELECT pg_terminate_backend($1)", process)
        await work.conn.execute("SELECT 1")

    deeds.steps.append(cut)
    assert code(await deeds.post()) == (503, "database-unavailable")
    assert await deeds.counts() == (0, 0, 0)
    assert (await deeds.post()).status_code == 201
    assert await deeds.counts() == (1, 3, 1)


async def test_a_mistake_of_ours_leaves_nothing(deeds: Deeds) -> None:
    async def stumble(_: Work) -> None:
        raise RuntimeError("a mistake of ours")

    deeds.steps.append(stumble)
    assert code(await deeds.post()) == (500, "internal-error")
    assert await deeds.counts() == (0, 0, 0)


async def test_another_process_was_quicker_with_the_same_key(deeds: Deeds) -> None:
    """Between our look and our lock another transaction may commit: then its answer is ours too."""
    first = await deeds.post()
    row = await deeds.pool.fetchrow("DELETE FROM idempotency RETURNING *")
    assert row is not None

    async def quicker(_: Work) -> None:
        await deeds.pool.execute(
            "INSERT INTO idempotency SELECT * FROM unnest($1::idempotency[])", [tuple(row)]
        )

    deeds.steps.append(quicker)
    again = await deeds.post()
    assert again.content == first.content
    assert again.headers[commands.REPLAYED] == "true"
    assert await deeds.counts() == (1, 3, 1)


async def test_two_that_block_each_other_both_end(deeds: Deeds) -> None:
    await deeds.pool.execute("INSERT INTO accounts (customer_id) VALUES ('a'), ('b')")
    meet = asyncio.Barrier(2)

    def cross(mine: str, yours: str) -> Step:
        async def step(work: Work) -> None:
            lock = "SELECT FROM accounts WHERE customer_id = $1 FOR UPDATE"
            await work.conn.execute(lock, mine)
            await meet.wait()
            await work.conn.execute(lock, yours)

        return step

    deeds.steps += [cross("a", "b"), cross("b", "a")]
    answers = await asyncio.gather(
        deeds.post({"customer_id": "x"}), deeds.post({"customer_id": "y"}, who=BERT)
    )
    assert [answer.status_code for answer in answers] == [201, 201]
    assert await deeds.counts() == (4, 6, 2)


async def test_fifty_at_once_do_it_once(deeds: Deeds) -> None:
    answers = await asyncio.gather(*(deeds.post() for _ in range(50)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await deeds.counts() == (1, 3, 1)


async def test_answers_are_forgotten_after_two_days_and_not_before(
    deeds: Deeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FORGET_ROWS", 1)
    await deeds.post()
    await deeds.post(who=BERT)
    now = clock.now()
    assert await idempotency.forget(deeds.pool, now + timedelta(hours=47)) == 0
    assert await idempotency.forget(deeds.pool, now + timedelta(hours=49)) == 2
    assert (await deeds.counts())[2] == 0


async def test_the_document_shows_the_header(deeds: Deeds) -> None:
    document = (await deeds.client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/deeds"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["idempotency-key"]
    assert operation["x-scopes"] == ["points:write"]
    assert "idempotency-key-reused" in operation["responses"]["422"]["description"]
