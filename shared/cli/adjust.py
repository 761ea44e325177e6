"""``treue adjust``: corrections from a CSV file, each booked once, with a report of every line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from shared.cli.adjustments import (
    FILE_BYTES_MAX,
    Done,
    MistakesError,
    Outcome,
    Row,
    Sender,
    read,
    too_much,
)
from shared.cli.common import DirOption, load_stack
from shared.cli.files import open_bytes
from shared.cli.words import counted
from shared.errors import UsageError

REFUSED_SHOWN_MAX = 50
WORDS: dict[Outcome, str] = {
    "booked": "booked",
    "waiting": "waiting for a second person",
    "already": "done before",
    "possible": "possible",
    "refused": "refused",
    "not sent": "not sent",
}


def adjust(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV with the columns customer_id, points, reason_code, reason; expires_at, key. - reads stdin."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would become of each line; change nothing.")
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Names the lines without a key: NAME once and for all."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The report of every line as JSON.")
    ] = False,
    folder: DirOption = None,
) -> None:
    """Give or take points by a list: through the API, each line once, however often this is run.

    The file is read in full first: with a mistake in it nothing is sent. What the rules refuse is told and
    changes nothing; the other lines are booked. Stopped in the middle, run it again.
    """
    stack = load_stack(folder)
    with closing(open_bytes(file)) as source:
        content = source.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise UsageError(f"{file}: at most {FILE_BYTES_MAX // 1024**2} MiB; split the file")
    try:
        rows = read(content, batch)
    except MistakesError as error:
        if as_json:
            mistakes = [asdict(mistake) for mistake in error.mistakes]
            print(json.dumps({"file": file, "sent": False, "mistakes": mistakes}, indent=2))
            raise typer.Exit(1) from None
        raise UsageError(f"{file}: {error}") from None
    done, stopped = _send(rows, Sender(stack["points_url"], stack["api_key"], dry_run=dry_run),
                          dry_run=dry_run)  # fmt: skip
    if as_json:
        print(json.dumps(report(file, done, stopped, dry_run=dry_run), indent=2))
    else:
        _tell(done, stopped, dry_run=dry_run)
    if stopped or any(one.outcome == "refused" for one in done):
        raise typer.Exit(1)


def _send(rows: Sequence[Row], sender: Sender, *, dry_run: bool) -> tuple[list[Done], str | None]:
    """Send all rows in order; returns what became of each, and why it stopped if it did."""
    done: list[Done] = []
    stopped = None
    with closing(sender):
        try:
            for row in rows:
                done.append(sender.send(row))  # noqa: PERF401 - what was sent counts, whatever comes
            if dry_run:
                too_much(done, sender)
        except UsageError as error:
            stopped = str(error)
    return done + [Done(row, "not sent") for row in rows[len(done) :]], stopped


def report(
    file: str, done: Sequence[Done], stopped: str | None, *, dry_run: bool
) -> dict[str, Any]:
    """The whole report for programs."""
    return {
        "file": file,
        "dry_run": dry_run,
        "stopped": stopped,
        "counts": dict(Counter(one.outcome for one in done)),
        "points": sum(one.row.points for one in done if one.outcome in {"booked", "possible"}),
        "lines": [
            {
                **{name: value for name, value in asdict(one.row).items() if name != "reason"},
                "outcome": one.outcome,
                "id": one.id,
                "code": one.code,
                "detail": one.detail,
            }
            for one in done
        ],
    }


def _tell(done: Sequence[Done], stopped: str | None, *, dry_run: bool) -> None:
    refused = [one for one in done if one.outcome == "refused"]
    for one in refused[:REFUSED_SHOWN_MAX]:
        points = f"{one.row.points:+,}"
        print(f"line {one.row.line}: {one.row.customer_id} {points}: {one.detail} ({one.code})",
              file=sys.stderr)  # fmt: skip
    if len(refused) > REFUSED_SHOWN_MAX:
        more = counted(len(refused) - REFUSED_SHOWN_MAX, "line")
        print(f"… and {more} more; --json tells all of them", file=sys.stderr)
    counts = Counter(one.outcome for one in done)
    told = [f"{counts[outcome]:,} {word}" for outcome, word in WORDS.items() if counts[outcome]]
    moved = sum(one.row.points for one in done if one.outcome in {"booked", "possible"})
    print(f"{counted(len(done), 'line')}: {', '.join(told)}; {moved:+,} points.")
    if dry_run:
        second = sum(one.outcome == "possible" and one.detail is not None for one in done)
        if second:
            print(f"{counted(second, 'line')} would wait for a second person.")
        print("Nothing was changed.")
    if stopped:
        print(f"Stopped: {stopped}. Run it again: what is done is not done twice.", file=sys.stderr)
