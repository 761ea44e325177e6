"""What every command needs: whose stack is meant, how to reach it, how a mistake is told."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from shared.errors import UsageError
from shared.stack.files import read_json
from shared.stack.layout import Layout, resolve_dir

DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        show_default=False,
        help="The stack's folder (default: TREUE_DIR, else .treue/stack).",
    ),
]


def layout_of(folder: Path | None) -> Layout:
    """The stack that ``--dir``, TREUE_DIR or the default names; it need not exist."""
    return Layout(resolve_dir(folder))


def load_stack(folder: Path | None) -> dict[str, Any]:
    """The ``stack.json`` of a stack that is up; says what to do if there is none."""
    layout = layout_of(folder)
    stack = read_json(layout.stack_json)
    if stack is None:
        raise UsageError(
            f"no stack is up in {layout.dir}: start it with `treue up`, or name another with --dir"
        )
    return stack


def versions_of(stack: Mapping[str, Any], layout: Layout) -> Path:
    """The folder of the program's later versions: beside the stack's data, or where the stack says they are."""
    named = stack.get("program_versions")
    return Path(named) if named else layout.versions


def fail(error: UsageError | str) -> NoReturn:
    """Print the error as it is and leave."""
    print(f"treue: {error}", file=sys.stderr)
    raise SystemExit(1)
