"""``treue demo``: the whole way with real purchases, and a summary to read."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from shared import clock
from shared.cli import story, up, verify
from shared.cli import summary as telling
from shared.cli.common import DirOption, layout_of, load_stack
from shared.cli.files import open_text
from shared.cli.lag import Away, Look, Watcher
from shared.cli.letters import connection
from shared.cli.online_retail import SOURCE, ZONE, Account, Invoice, Reader, event_id, events, shift
from shared.cli.publisher import Publisher
from shared.cli.settle import Settled, settle
from shared.cli.summary import Figures
from shared.errors import UsageError
from shared.ids import event_key
from shared.stack import control
from shared.stack.files import read_json
from shared.stack.layout import Layout, checkout

DATA = Path("data") / "online_retail.csv.gz"
LINES_AT_ONCE = 64
START_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 900.0


def demo(
    folder: DirOption = None,
    port_base: Annotated[
        int | None, typer.Option(metavar="N", show_default=False, help="As for `treue up`.")
    ] = None,
    program: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="As for `treue up`.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="Only the first N purchases, and what was cancelled by then.",
        ),
    ] = None,
) -> None:
    """Start the stack, send it a year of real purchases and cancellations, check the books, and tell of it.

    They are those of a British shop for giftware, moved so that the last purchase is yesterday's.
    The stack stays up. A second run sends the same again: all of it is known, nothing changes.
    """
    layout = layout_of(folder)
    screen = Console(highlight=False)
    with screen.status("Reading the real purchases …"):
        reader = Reader(DATA.name)
        with open_text(str(checkout() / DATA)) as text:
            invoices = reader.read(text)
    ensure_up(layout, port_base, program)
    stack = load_stack(folder)
    figures = asyncio.run(_run(stack, invoices, reader.account, limit))
    report = asyncio.run(verify.check(stack, layout))
    if not report.ok:
        verify.show(report, screen)
        raise typer.Exit(1)
    figures.invariants = report.count
    asyncio.run(telling.collect(stack, figures))
    chosen = asyncio.run(story.choose(stack["postgres"]))
    told = story.read(stack, chosen) if chosen is not None else None
    telling.show(stack, figures, told, screen)


def ensure_up(layout: Layout, port_base: int | None, program: Path | None) -> None:
    """Start the stack unless it is up. Raises UsageError if the one that is up is of no use."""
    layout.create()
    with control.locked(layout) as lock:
        held = lock is None
    if held:
        _wait_until_ready(layout)
        state = read_json(layout.state_json) or {}
        if not state.get("workers", True):
            raise UsageError("the stack runs without workers: `treue down`, then try again")
        if program is not None or port_base is not None:
            raise UsageError(
                "the stack is up already: `treue down` before you give it another program or port"
            )
        return
    with _own_signals():
        up.start(layout, port_base, program, detach=True)


def _wait_until_ready(layout: Layout) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while read_json(layout.stack_json) is None:
        if time.monotonic() > deadline:
            raise UsageError("the stack is neither up nor down: see `treue status`")
        time.sleep(0.2)


@contextmanager
def _own_signals() -> Iterator[None]:
    """What ``up`` does on Ctrl-C ends with it: afterwards Ctrl-C ends the demo, not the stack."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _run(
    stack: Mapping[str, Any], invoices: list[Invoice], account: Account, limit: int | None
) -> Figures:
    """Publish, wait until all is settled, and note how it went."""
    by = await _days_to_move(stack, invoices)
    before = await telling.counters(stack)
    async with Watcher(stack["kafka"], stack["postgres"]) as watcher:
        try:
            start = await watcher.look()
        except Away as error:
            raise UsageError(f"{error}; see `treue status`") from None
    chosen = _first(invoices, limit)
    began = time.monotonic()
    published = await _publish(stack, chosen, account, by)
    live = Live(start, began)
    with live.progress:
        settled = await settle(stack["kafka"], stack["postgres"], DRAIN_SECONDS_MAX, live.see)
    if not settled.done or settled.look is None:
        raise UsageError(_not_settled(settled))
    after = await telling.counters(stack)
    return Figures(
        account=account,
        of=sum(not invoice.cancels for invoice in invoices),
        moved=by,
        published=published,
        seconds_points=live.credited_after or settled.seconds,
        seconds_all=time.monotonic() - began,
        events=sum(settled.look.consumed.values()) - sum(start.consumed.values()),
        applied=after.applied - before.applied,
        duplicates=after.duplicates - before.duplicates,
        poison=after.poison - before.poison,
    )


def _first(invoices: list[Invoice], limit: int | None) -> list[Invoice]:
    """Everything until so many purchases are among it."""
    purchases = (place for place, invoice in enumerate(invoices, 1) if not invoice.cancels)
    return invoices[: next(islice(purchases, limit - 1, None), None) if limit else None]


def _not_settled(settled: Settled) -> str:
    left = settled.look.told() if settled.look is not None else []
    told = "".join(f"\n  {line}" for line in [*([settled.away] if settled.away else []), *left])
    return f"not everything was consumed after {settled.seconds:.0f} s, see `treue status`:{told}"


async def _days_to_move(stack: Mapping[str, Any], invoices: list[Invoice]) -> timedelta:
    """So that the last purchase is yesterday's, or as they were moved when they were first sent here.

    An order is known by its number: the same one with another date would be no repetition.
    """
    first = next(invoice for invoice in invoices if not invoice.cancels)
    async with connection("points", stack["postgres"]["points"]) as conn:
        key = event_key(SOURCE, event_id(first.number))
        earlier = await conn.fetchval(story.sql.points_earlier, key)
    if earlier is not None:
        return timedelta(days=(earlier.astimezone(ZONE).date() - first.moment.date()).days)
    return shift(invoices, clock.now().astimezone(ZONE).date() - timedelta(days=1))


async def _publish(
    stack: Mapping[str, Any], invoices: list[Invoice], account: Account, by: timedelta
) -> int:
    progress = _bars(TextColumn(""))
    with progress:
        task = progress.add_task("publish", total=len(invoices), rate="")
        async with Publisher(stack["kafka"]) as publisher:
            lines = events(invoices, account, by)
            while some := list(islice(lines, LINES_AT_ONCE)):
                await publisher.publish(some)
                progress.update(task, completed=publisher.result.accepted.total())
            result = await publisher.finish()
    if not result.complete:
        raise UsageError(
            f"the broker took {result.acknowledged.total():,} of {result.lines:,} events"
        )
    return result.acknowledged.total()


class Live:
    """Bars for the three services while they work the events off."""

    def __init__(self, start: Look, began: float) -> None:
        self.progress = _bars(TextColumn("{task.fields[rate]}"))
        self.credited_after: float | None = None
        self._start = start
        self._began = began
        self._tasks = {
            service: self.progress.add_task(service, total=None, rate="")
            for service in start.consumed
        }

    def see(self, look: Look | None, _away: str) -> None:
        """Show what one look found."""
        if look is None:
            return
        passed = time.monotonic() - self._began
        if self.credited_after is None and not _waits(look, "points", "treue.purchases"):
            self.credited_after = passed
        for service, task in self._tasks.items():
            before = self._start.consumed[service]
            done = look.consumed[service] - before
            total = look.total(service) - before
            rate = f"{done / passed:,.0f} events/s" if done < total else ""
            self.progress.update(task, completed=done, total=total, rate=rate)


def _waits(look: Look, service: str, topic: str) -> bool:
    return any(item.service == service and item.topic == topic for item in look.left)


def _bars(last: TextColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        last,
        console=console,
        disable=not console.is_terminal,
    )
