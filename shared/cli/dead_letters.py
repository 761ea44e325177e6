"""``treue dead-letters``: what could not be processed, why, and its way back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from shared.cli import letters
from shared.cli.common import DirOption, load_stack
from shared.cli.letters import Outcome, Ref
from shared.cli.words import counted
from shared.contracts.catalogue import CONSUMES
from shared.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="What could not be processed, why, and its way back.",
)

ServiceOption = Annotated[
    str | None, typer.Option("--service", help=f"Only of one service: {', '.join(CONSUMES)}.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Only where reason or field contain TEXT.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
IdArgument = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="SERVICE:NUMBER, as the list shows it.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Everything open that fits the filters.")]


def _databases(stack: Mapping[str, str], service: str | None) -> dict[str, str]:
    if service is not None and service not in stack:
        raise UsageError(f"--service {service}: choose one of {', '.join(stack)}")
    return {name: dsn for name, dsn in stack.items() if service in {None, name}}


@app.command("list")
def list_(
    folder: DirOption = None,
    service: ServiceOption = None,
    reason: ReasonOption = "",
    state: Annotated[str, typer.Option(help="open, replayed, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first."""
    if state not in {"open", "replayed", "discarded", "all"}:
        raise UsageError(f"--state {state}: choose open, replayed, discarded or all")
    databases = _databases(load_stack(folder)["postgres"], service)
    rows = asyncio.run(letters.find(databases, reason, state, limit))
    if as_json:
        print(json.dumps(rows, default=str, indent=2))
    elif rows:
        _print(rows)
    else:
        print(f"No dead letters{'' if state == 'all' else f' that are {state}'}.")


def _print(rows: list[dict[str, Any]]) -> None:
    """Two lines a letter: which and where, then what is wrong with it; narrow enough for any screen."""
    wide = max(len(row["id"]) for row in rows)
    for row in rows:
        facts = [
            f"{row['recorded_at']:%Y-%m-%d %H:%M:%S}",
            f"{row['topic']}/{row['partition']}/{row['offset']}",
            counted(row["bytes"] or 0, "byte"),
        ]
        facts += [f"sent again {counted(row['replays'], 'time')}"] if row["replays"] else []
        facts += [row["state"]] if row["state"] != "open" else []
        facts += [f"({row['note']})"] if row["note"] else []
        print(f"{row['id']:{wide}}  {'  '.join(facts)}")
        field = f"{row['field']}: " if row["field"] else ""
        print(f"{'':{wide}}  {harmless(field + row['reason'])}")


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="SERVICE:NUMBER, as in the list.")],
    folder: DirOption = None,
    service: ServiceOption = None,
    raw: Annotated[bool, typer.Option(help="Nothing but the original bytes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: where it was, why it is here, and its original bytes."""
    databases = _databases(load_stack(folder)["postgres"], None)
    row = asyncio.run(letters.get(databases, letters.parse_ref(letter, databases, service)))
    value = row["value"] or b""
    if raw:
        sys.stdout.buffer.write(value)
        return
    facts: dict[str, Any] = {
        name: row[name]
        for name in (
            *("service", "id", "state", "topic", "partition", "offset", "recorded_at"),
            *("field", "reason", "replays", "note"),
        )
    }
    facts["key"] = readable(row["key"])
    facts["headers"] = {n: readable(v) for n, v in letters.originals(row["headers"])}
    if as_json:
        print(json.dumps(facts | {"value": readable(row["value"])}, default=str, indent=2))
        return
    for name, fact in facts.items():
        print(f"{name + ':':13}{'' if fact is None else fact}")
    print(f"{'value:':13}{len(value):,} bytes\n{readable(value)}")


def readable(data: bytes | None) -> str | None:
    """Bytes as text where they are text a terminal may show, else as ``hex:…``."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"hex:{data.hex()}"
    return text if harmless(text) == text else f"hex:{data.hex()}"


def harmless(text: str) -> str:
    """A foreign text without what would steer a terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


@app.command()
def replay(
    letter: IdArgument = None,
    all_: AllOption = False,
    folder: DirOption = None,
    service: ServiceOption = None,
    reason: ReasonOption = "",
) -> None:
    """Send original records to their topics again, byte by byte; at most 5 times each."""
    stack = load_stack(folder)
    databases = _databases(stack["postgres"], service)
    refs = _chosen(letter, all_, databases, service, reason)
    outcome = asyncio.run(letters.replay(stack["kafka"], databases, refs))
    _tell(outcome, "sent again")


@app.command()
def discard(
    note: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is given up.")],
    letter: IdArgument = None,
    all_: AllOption = False,
    folder: DirOption = None,
    service: ServiceOption = None,
    matching: Annotated[
        str,
        typer.Option(metavar="TEXT", help="With --all: only where reason or field contain TEXT."),
    ] = "",
) -> None:
    """Give dead letters up. Their rows and bytes stay, with the reason."""
    if not note.strip():
        raise UsageError("--reason must say why: who comes later will want to know")
    databases = _databases(load_stack(folder)["postgres"], service)
    refs = _chosen(letter, all_, databases, service, matching)
    _tell(asyncio.run(letters.discard(databases, refs, note)), "discarded")


def _chosen(
    letter: str | None, all_: bool, databases: Mapping[str, str], service: str | None, text: str
) -> list[Ref]:
    if (letter is None) == (not all_):
        raise UsageError("give either the ID of one dead letter or --all")
    if letter is not None:
        return [letters.parse_ref(letter, databases, service)]
    return asyncio.run(letters.open_refs(databases, text))


def _tell(outcome: Outcome, done: str) -> None:
    for ref, why in outcome.refused.items():
        print(f"{ref}: not {done}: {why}", file=sys.stderr)
    print(f"{counted(outcome.done, 'dead letter')} {done}.")
    if outcome.refused:
        raise typer.Exit(1)
