"""Commands that wait share a transaction: what one costs in round trips, locks and commits, many cost together.

A command that comes while nothing runs begins at once, alone. Those that come meanwhile wait, and are the next
group: one transaction that takes all their keys, decides all of them, and keeps all answers. So nobody waits for
company, and the more there is to do, the cheaper each becomes.

A group only does what is plain. Whatever is not – its ``decide`` says so, or the group's transaction fails for
whatever reason – is done by itself as if there were no groups, so no command can harm another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.responses import Response

from shared import clock
from shared.db import idempotency
from shared.db.closing import Closing
from shared.db.idempotency import Claim, Kept
from shared.db.types import Connection
from shared.errors import TreueError
from shared.events.model import Work
from shared.http.commands import (
    Answer,
    Desk,
    Outcome,
    Run,
    alone,
    claim_of,
    desk_of,
    kept_of,
    repeated,
    response,
)
from shared.http.database import lent
from shared.http.problems import DatabaseUnavailable

T = TypeVar("T")

GROUP_COMMANDS_MAX = 64
# Two overlap our work and PostgreSQL's, but are half as large, and cost both of them a third more.
AT_ONCE = 1

BEGIN = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off"

# What becomes of a command: its answer, its refusal, or None: it has to be done by itself.
Decision = Answer | TreueError | None
Decide = Callable[[Work, Sequence[T]], Awaitable[Sequence[Decision]]]

log = structlog.get_logger(__name__)


class _Waiting(NamedTuple, Generic[T]):
    """A command, and who waits for what becomes of it; None: it has to be done by itself."""

    claim: Claim
    asked: T
    outcome: asyncio.Future[Outcome | None]


class Groups(Generic[T]):
    """One to a process and kind of command. ``decide`` gets a Work, and what is asked for, in the order it came.

    It decides before it writes, and writes only for those that it answers. It keeps nothing outside: all may be
    rolled back.
    """

    def __init__(self, desk: Desk, decide: Decide[T]) -> None:
        self._desk, self._decide = desk, decide
        self._waiting: deque[_Waiting[T]] = deque()
        self._running: dict[asyncio.Task[None], int] = {}
        self._claims: set[UUID] = set()

    async def do(self, claim: Claim, asked: T, run: Run) -> Outcome:
        """Do this along with others that wait, or by itself (``run``) where that cannot be.

        Who gives up waiting takes nothing from the others: a command not begun is left out, one that runs is done.
        Raises what it is refused with, ``DatabaseUnavailable``, or ``Problem`` for a key that is not free.
        """
        if claim.id in self._claims:
            repeated(claim, None)
        self._claims.add(claim.id)
        try:
            one = _Waiting(claim, asked, asyncio.get_running_loop().create_future())
            self._waiting.append(one)
            self._start()
            outcome = await one.outcome
            return await alone(self._desk, claim, run) if outcome is None else outcome
        finally:
            self._claims.discard(claim.id)

    async def finish(self) -> None:
        """Wait until everything that was begun is done."""
        while self._running:
            await asyncio.wait(self._running)

    def _start(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            group = self._next()
            if group:
                task = asyncio.create_task(self._run(group))
                self._running[task] = len(group)
                task.add_done_callback(self._ended)

    def _next(self) -> list[_Waiting[T]]:
        """Take a fair part of all that is asked for, so that the next group is not much smaller."""
        share = -(-(len(self._waiting) + sum(self._running.values())) // AT_ONCE)
        count = min(len(self._waiting), share, GROUP_COMMANDS_MAX)
        group = [self._waiting.popleft() for _ in range(count)]
        return [one for one in group if not one.outcome.done()]

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._start()

    async def _run(self, group: Sequence[_Waiting[T]]) -> None:
        outcomes: Sequence[Outcome | TreueError | None] = [None] * len(group)
        try:
            outcomes = await self._together(group)
        except DatabaseUnavailable as away:
            if isinstance(away.__cause__, TimeoutError):
                outcomes = [DatabaseUnavailable() for _ in group]
        except Exception as error:  # noqa: BLE001 - whatever it was: who caused it will meet it alone
            log.warning("a group of commands is done one by one", error=repr(error))
        finally:
            for one, outcome in zip(group, outcomes, strict=True):
                if one.outcome.done():
                    continue
                if isinstance(outcome, TreueError):
                    one.outcome.set_exception(outcome)
                else:
                    one.outcome.set_result(outcome)

    async def _together(
        self, group: Sequence[_Waiting[T]]
    ) -> Sequence[Outcome | TreueError | None]:
        async with lent(self._desk.pool) as conn, _transaction(conn):
            taken = await idempotency.claim(conn, [one.claim for one in group])
            ours = [one for one in group if one.claim.id not in taken]
            closing = Closing(conn)
            work = Work(conn, clock.now(), self._desk.source, closing=closing)
            found = await self._decide(work, [one.asked for one in ours]) if ours else ()
            outcomes: dict[UUID, Outcome | TreueError | None] = {}
            done: list[tuple[Claim, Kept]] = []
            for one, decision in zip(ours, found, strict=True):
                if isinstance(decision, Answer):
                    kept = kept_of(decision)
                    done.append((one.claim, kept))
                    outcomes[one.claim.id] = Outcome(kept)
                else:
                    outcomes[one.claim.id] = decision
            if done:
                await idempotency.finish(closing, done, work.messages, work.now)
        if work.messages:
            self._desk.bell.ring(self._desk.pool)
        for one in group:
            if one.claim.id in taken:
                outcomes[one.claim.id] = _told(one.claim, taken[one.claim.id])
        return [outcomes[one.claim.id] for one in group]


@asynccontextmanager
async def _transaction(conn: Connection) -> AsyncIterator[None]:
    """A transaction whose statements are planned once, for groups and tables of any size.

    PostgreSQL takes an array of one for so much cheaper than one of unknown length that it would plan statements
    anew each time, which costs more than to run them; and a table that it planned to read from end to end while it
    was small, it would go on to read like that while it grows.
    """
    await conn.execute(BEGIN)
    try:
        yield
    except BaseException:
        if not conn.is_closed():
            await conn.execute("ROLLBACK")
        raise
    await conn.execute("COMMIT")


def _told(claim: Claim, known: idempotency.Known | None) -> Outcome | TreueError:
    try:
        return repeated(claim, known)
    except TreueError as problem:
        return problem


async def together(request: Request, groups: Groups[T], asked: T, run: Run) -> Response:
    """Like ``command``, but along with others that wait; ``run`` does it by itself where that cannot be.

    Raises what ``command`` raises.
    """
    return response(await groups.do(await claim_of(request), asked, run))


def of(request: Request, name: str, decide: Callable[[], Decide[T]]) -> Groups[T]:
    """The groups of this process by that name, made when they are first asked for."""
    made = request.app.state.groups
    if name not in made:
        made[name] = Groups(desk_of(request), decide())
    groups: Groups[T] = made[name]
    return groups
