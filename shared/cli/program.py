"""``treue program``: the rules of a program file, before anything runs with them."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.program.__main__ import main as check_files

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The rules of a program file, before anything runs with them.",
)


@app.callback()
def _program() -> None:
    """Keep `check` a word of its own, also while it is the only one."""


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Program files (YAML).")],
) -> None:
    """Check program files: their version, or every mistake with its line and field."""
    failed = check_files(files)
    if failed:
        raise typer.Exit(failed)
