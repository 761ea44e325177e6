"""``treue publish``: events from a file or stdin to their topics, every one acknowledged or told."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shared.cli.common import DirOption, load_stack
from shared.cli.files import open_bytes, size_of
from shared.cli.lines import Chunks
from shared.cli.publisher import Publisher, Result
from shared.cli.words import counted

REJECTED_SHOWN_MAX = 20


def publish(
    file: Annotated[
        str, typer.Argument(help="CloudEvents, one JSON a line; .gz too; - reads stdin.")
    ],
    folder: DirOption = None,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Send every line to TOPIC as it stands, unread and without a key: to try bad input.",
        ),
    ] = None,
) -> None:
    """Publish CloudEvents to their topics, keyed by customer.

    Exit code 0 means that every line was an event and the broker has acknowledged every one. A line
    that is no event is left out and named; the others are published. Publishing twice does no harm.
    """
    bootstrap = load_stack(folder)["kafka"]
    progress = bar()
    result = asyncio.run(send(bootstrap, file, raw, progress))
    for line in told(file, result):
        print(line, file=sys.stderr)
    print(summary(result))
    if not result.complete:
        raise typer.Exit(1)


async def send(bootstrap: str, file: str, raw: str | None, progress: Progress) -> Result:
    """Publish a file, with its progress on screen."""
    name = "stdin" if file == "-" else Path(file).name
    with closing(open_bytes(file)) as source, progress:
        chunks = Chunks(source, name)
        task = progress.add_task(f"publish {name}", total=size_of(file), events=0)
        async with Publisher(bootstrap) as publisher:
            async for lines in chunks:
                if lines:
                    await publisher.publish(lines, raw)
                else:
                    await publisher.flush()
                progress.update(
                    task, completed=chunks.position, events=publisher.result.accepted.total()
                )
            result = await publisher.finish()
        progress.update(task, total=max(chunks.position, 1), completed=max(chunks.position, 1))
    return result


def bar() -> Progress:
    """A progress bar on stderr; only a terminal shows it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def told(file: str, result: Result) -> list[str]:
    """What was not published, and why."""
    name = "stdin" if file == "-" else file
    lines = [
        f"{name}, line {number}: not published: {why}"
        for number, why in result.rejected[:REJECTED_SHOWN_MAX]
    ]
    more = result.rejected_count - len(lines)
    if more:
        lines.append(f"… and {more:,} more lines that are no events of ours")
    lines += [f"{counted(count, 'event')} not taken: {why}" for why, count in result.errors.items()]
    return lines


def summary(result: Result) -> str:
    """Counts by topic, in one line."""
    topics = ", ".join(
        f"{count:,} to {topic}" for topic, count in sorted(result.acknowledged.items())
    )
    kept = result.rejected_count + result.accepted.total() - result.acknowledged.total()
    left_out = f"; {kept:,} not published" if kept else ""
    events = counted(result.acknowledged.total(), "event")
    return f"Published {events} ({topics or 'none'}){left_out}."
