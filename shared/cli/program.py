"""``treue program``: the rules of a program file, before anything runs with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from shared import clock
from shared.cli.common import DirOption, layout_of, load_stack, versions_of
from shared.errors import UsageError
from shared.program import Program, ProgramError, load, versions
from shared.program.__main__ import main as check_files
from shared.program.difference import Difference, difference
from shared.program.telling import for_members

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The rules of a program file, before anything runs with them.",
)


@app.callback()
def _program() -> None:
    """Commands on program files."""


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Program files (YAML).")],
) -> None:
    """Check program files: their version, or every mistake with its line and field."""
    failed = check_files(files)
    if failed:
        raise typer.Exit(failed)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The rules as they are.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The rules as they would be.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say field by field what differs between two program files, and whom it reaches."""
    one, other = _load(old), _load(new)
    found = difference(one, other)
    if as_json:
        print(json.dumps(_plain(one, other, found), indent=2, ensure_ascii=False))
        return
    if not found:
        print(f"The same rules: version {one.version}.")
        return
    print(f"{one.id} {one.version} → {other.id} {other.version}")
    for item in found:
        print(f"  {item.words()}")
        print(f"    ({item.meaning})")
        print(f"    → {for_members(item)}")
    if refused := versions.refusal(one, other):
        print(f"`treue program apply` would refuse it: {refused}")
    print("See what it would have given with `treue simulate --program NEW`.")


@app.command()
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rules that will hold.")],
    valid_from: Annotated[
        str, typer.Option("--valid-from", metavar="INSTANT", help="Such as 2027-01-01T00:00:00Z.")
    ],
    folder: DirOption = None,
) -> None:
    """Let other rules hold for what happens from an instant on; what happened before keeps its rules.

    The services see it at once. Refused is what would value points anew that are there.
    """
    stack, layout = load_stack(folder), layout_of(folder)
    instant = _instant(valid_from)
    running = load(stack["program"])
    _load(file)
    target, found = versions.apply(versions_of(stack, layout), running, file, instant, clock.now())
    print(f"Valid from {instant:%Y-%m-%dT%H:%M:%SZ}: {target.name}")
    for item in found:
        print(f"  {item.words()}")
        print(f"    → {for_members(item)}")


@app.command(name="versions")
def list_versions(folder: DirOption = None) -> None:
    """List the rules of a stack: since when each version holds."""
    stack, layout = load_stack(folder), layout_of(folder)
    running = load(stack["program"])
    print(f"{running.version}  from the beginning  {stack['program']}")
    for version in versions.read(versions_of(stack, layout), running):
        print(f"{version.program.version}  from {version.valid_from:%Y-%m-%dT%H:%M:%SZ}")


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text.upper())
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--valid-from {text!r} is no instant with a zone: 2027-01-01T00:00:00Z")


def _load(file: Path) -> Program:
    try:
        return load(file)
    except ProgramError as error:
        raise UsageError(str(error)) from None


def _plain(old: Program, new: Program, found: Sequence[Difference]) -> dict[str, Any]:
    return {
        "old": {"id": old.id, "version": old.version},
        "new": {"id": new.id, "version": new.version},
        "differences": [
            {
                "field": item.field,
                "old": item.old,
                "new": item.new,
                "meaning": item.meaning,
                "reaches": item.reach,
                "members": for_members(item),
            }
            for item in found
        ],
    }
