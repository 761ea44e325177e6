"""``treue convert``: files of others become CloudEvents; what was left out is told on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated

import typer

from shared import clock
from shared.cli import online_retail as data_set
from shared.cli.files import open_text
from shared.cli.online_retail import Account, Reader
from shared.errors import UsageError

CHUNK_BYTES = 1024 * 1024

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Turn files of others into CloudEvents."
)


@app.callback()
def _convert() -> None:
    """Keep ``online-retail`` a command of its own: more formats will stand beside it."""


@app.command("online-retail")
def online_retail(
    file: Annotated[str, typer.Argument(help="CSV of the data set, plain or .gz; - reads stdin.")],
    shift_to: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Move all dates by whole days so that the last purchase falls on DATE"
            " (like 2026-11-21, or yesterday).",
        ),
    ] = None,
) -> None:
    """Write the real purchases and cancellations of 'Online Retail' (UCI) to stdout, one JSON event a line."""
    day = parse_date(shift_to) if shift_to is not None else None
    reader = Reader("stdin" if file == "-" else file)
    with open_text(file) as text:
        invoices = reader.read(text)
    by = data_set.shift(invoices, day) if day is not None else timedelta(0)
    try:
        for chunk in _chunks(data_set.events(invoices, reader.account, by)):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    print(told(reader.account), file=sys.stderr)


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines joined to about a megabyte: one system call for hundreds of them."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def parse_date(text: str) -> date:
    """An ISO date, or ``yesterday`` by the shop's calendar."""
    if text == "yesterday":
        return clock.now().astimezone(data_set.ZONE).date() - timedelta(days=1)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--shift-to {text!r} is no date; write it like 2026-11-21") from None


def left_out(account: Account) -> list[str]:
    """What is neither purchase nor cancellation, one phrase a reason, the biggest first."""
    words = {
        data_set.NOTHING_BACK: "cancellations (C…) with lines that take nothing back",
        data_set.ADJUSTMENT: "adjustments of the books (A…, negative prices)",
        data_set.STOCK: "corrections of the stock (negative quantity, price 0, no customer)",
        data_set.RETURNED: "ordinary invoices with lines of a negative quantity",
    }
    tallies = sorted(account.left_out.items(), key=lambda item: -item[1].lines)
    return [
        f"{len(tally.invoices):,} {words[reason]}, {tally.lines:,} lines"
        for reason, tally in tallies
    ]


def told(account: Account) -> str:
    """One paragraph on what became of the file."""
    span = f", {account.first:%Y-%m-%d} to {account.last:%Y-%m-%d}" if account.first else ""
    return (
        f"Read {account.lines:,} lines of {account.invoices:,} invoices and wrote"
        f" {account.purchases:,} purchases with {account.purchase_lines:,} lines"
        f" ({len(account.customers):,} customers{span})."
        f" {account.guests:,} purchases name no customer: written as guests', they earn nothing."
        f" {account.cancellations:,} cancellations with {account.cancelled_lines:,} lines became refunds"
        f" without an order id, {account.guest_cancellations:,} of them guests'."
        f" {account.zero_price_lines:,} lines at price 0 stay, and earn nothing."
        f" Left out: {'; '.join(left_out(account)) or 'nothing'}."
    )
