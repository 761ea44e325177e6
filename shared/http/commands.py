"""Writes over HTTP: one transaction holds the effects, the events and the answer, under an ``Idempotency-Key``.

After draft-ietf-httpapi-idempotency-key-header: 400 without a key, 422 for a key that came with another body, 409
while the first request is under way. A repetition within two days gets the very bytes of the first answer, with
``Idempotency-Replayed: true``. Refusals are not kept: they changed nothing, so trying again is safe.

A route takes ``dependencies=write("points:write")``, declares ``PROBLEMS`` among its ``responses``, ends with::

    async def run(work: Work) -> Answer: ...
    return await command(request, run)

"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from fastapi import Depends, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from shared import clock
from shared.db import idempotency
from shared.db.idempotency import Claim, Kept, Known
from shared.db.types import Pool
from shared.events.model import Work
from shared.http import problems
from shared.http.bell import Bell
from shared.http.database import connection, lent
from shared.http.keys import Key, Scope, require
from shared.http.problems import DatabaseUnavailable, Problem
from shared.ids import digest_uuid

KEY_CHARS_MAX = 255
# Two commands that stand in each other's way: one of them begins anew, and finds what the other did.
TRIES_MAX = 3
REPLAYED = "Idempotency-Replayed"

MISSING = problems.define(
    "idempotency-key-missing",
    400,
    "Idempotency key missing",
    'Send `Idempotency-Key: "…"`, a new one (a UUID) for each thing to be done, the same one to try it again.',
)
INVALID = problems.define(
    "idempotency-key-invalid",
    400,
    "Idempotency key invalid",
    f"Send one key of 1 to {KEY_CHARS_MAX} printable ASCII characters.",
)
REUSED = problems.define(
    "idempotency-key-reused",
    422,
    "Idempotency key reused",
    "This key came with another body before: send a new key for a new request.",
)
IN_USE = problems.define(
    "idempotency-key-in-use",
    409,
    "Idempotency key in use",
    "The first request with this key is under way: try again shortly, with the same key.",
)
PROBLEMS = (MISSING, INVALID, REUSED, IN_USE)

# A string of RFC 8941, as the draft has it, or the same without its quotes, as most clients send it.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_BARE = re.compile(r"[!#-~][ -~]*", re.ASCII)
_decode = msgspec.json.Decoder(float_hook=str).decode
_encode = msgspec.json.Encoder(decimal_format="string").encode
_sorted = msgspec.json.Encoder(order="sorted").encode
_REPEATABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answers: a schema object, or anything msgspec can write as JSON."""

    status: int
    model: Any
    headers: Mapping[str, str] = field(default_factory=dict)


Run = Callable[[Work], Awaitable[Answer]]


class Outcome(NamedTuple):
    """An answer as it is kept, and whether it was given before."""

    kept: Kept
    replayed: bool = False


class Desk(NamedTuple):
    """Where a process does its commands; ``source`` is what its events come from."""

    pool: Pool
    bell: Bell
    source: str


def write(scope: Scope) -> list[Any]:
    """``dependencies=`` of a route that changes something: an API key with the scope, then the header."""
    return [require(scope), Depends(_header)]


def caller(request: Request) -> str:
    """The id of the API key that a request came with: the actor of what it does."""
    key: Key = request.state.key
    return key.id


def command_id(request: Request) -> UUID:
    """What a request asks for as one id, the same for ever: a hash of client, method, path and key.

    Ids made from it keep a command from being done twice even after its answer was forgotten.
    """
    return digest_uuid(
        "idempotency", caller(request), _operation(request), request.state.idempotency_key
    )


async def command(request: Request, run: Run) -> Response:
    """Do ``run`` once for this request's key, in one transaction, and answer what it answers.

    ``run`` gets a Work whose messages go to the outbox of the same transaction. A ``Problem`` that it raises rolls
    all of it back. It may be called again after a rollback, so it keeps nothing outside.

    Raises:
        Problem: one of ``PROBLEMS``, ``database-unavailable``, or what ``run`` refuses with.

    """
    return response(await alone(desk_of(request), await claim_of(request), run))


async def alone(desk: Desk, wanted: Claim, run: Run) -> Outcome:
    """``command`` for a claim that has been made out."""
    for _ in range(TRIES_MAX - 1):
        try:
            return await _once(desk, wanted, run)
        except asyncpg.UniqueViolationError as error:
            # Another process was done with the same key between our look and our lock.
            if error.table_name != idempotency.TABLE:
                raise
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, _REPEATABLE):
                raise
    return await _once(desk, wanted, run)


async def rehearse(request: Request, run: Run) -> Response:
    """What ``run`` would answer at this moment, with status 200; nothing stays, and the key is not used up."""
    async with connection(request) as conn:
        transaction = conn.transaction()
        await transaction.start()
        try:
            answer = await run(Work(conn, clock.now(), desk_of(request).source))
        finally:
            await transaction.rollback()
    return response(Outcome(kept_of(answer)._replace(status=200)))


async def _once(desk: Desk, wanted: Claim, run: Run) -> Outcome:
    async with lent(desk.pool) as conn, conn.transaction():
        taken = await idempotency.claim(conn, [wanted])
        if wanted.id in taken:
            return repeated(wanted, taken[wanted.id])
        work = Work(conn, clock.now(), desk.source)
        kept = kept_of(await run(work))
        await idempotency.finish(conn, [(wanted, kept)], work.messages, work.now)
    if work.messages:
        desk.bell.ring(desk.pool)
    return Outcome(kept)


def repeated(wanted: Claim, known: Known | None) -> Outcome:
    """What a key that is not free answered before; ``Problem`` if that was to another body, or is to come."""
    if known is None:
        raise Problem(
            IN_USE,
            "A request with this Idempotency-Key is under way.",
            headers={"Retry-After": str(problems.RETRY_AFTER_SECONDS)},
        )
    if known.fingerprint != wanted.fingerprint:
        raise Problem(REUSED, "This Idempotency-Key came with another body before.")
    return Outcome(known.answer, replayed=True)


def desk_of(request: Request) -> Desk:
    """Where this process does its commands."""
    state = request.app.state
    return Desk(state.pool, state.bell, f"/services/{state.service}")


async def claim_of(request: Request) -> Claim:
    """What a request claims: its key, for the content of its body."""
    body = await request.body()
    # Spaces and the order of fields are no other request; a number's digits are.
    content = _sorted(_decode(body)).decode() if body else ""
    return Claim(
        command_id(request),
        caller(request),
        _operation(request),
        request.state.idempotency_key,
        digest_uuid("body", content),
    )


def _operation(request: Request) -> str:
    return f"{request.method} {request.url.path}"


async def _header(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            description=f"One key for each thing to be done, at most {KEY_CHARS_MAX} characters;"
            f" the answer is kept for {int(idempotency.KEPT.total_seconds()) // 3600} h.",
            examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
        ),
    ] = None,
) -> None:
    if idempotency_key is None:
        raise Problem(MISSING, "This request needs the header Idempotency-Key.")
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Problem(INVALID, "There is more than one Idempotency-Key.")
    text = idempotency_key.strip()
    if match := _QUOTED.fullmatch(text):
        text = re.sub(r"\\(.)", r"\1", match[1])
    elif not _BARE.fullmatch(text):
        raise Problem(INVALID, "The Idempotency-Key is not a string of printable ASCII characters.")
    if not 1 <= len(text) <= KEY_CHARS_MAX:
        raise Problem(INVALID, f"The Idempotency-Key has {len(text)} characters.")
    request.state.idempotency_key = text


def kept_of(answer: Answer) -> Kept:
    """An answer as it is stored and sent."""
    model = answer.model
    if isinstance(model, BaseModel):
        return Kept(answer.status, answer.headers, model.__pydantic_serializer__.to_json(model))
    return Kept(answer.status, answer.headers, _encode(model))


def response(outcome: Outcome) -> Response:
    """An answer on its way out."""
    kept = outcome.kept
    more = {REPLAYED: "true"} if outcome.replayed else {}
    return Response(kept.body, kept.status, {**kept.headers, **more}, "application/json")
