"""The ``treue`` command: its commands stand in modules of their own, loaded when they are called."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from shared.cli.common import fail
from shared.errors import UsageError

# A module of this package bears the command's name and holds the function of that name, or a typer app
# called `app` where the command has commands of its own.
COMMANDS = (
    *("up", "down", "status"),
    *("publish", "convert", "drain", "verify", "dead-letters", "demo"),
    *("liability", "simulate", "adjust", "program", "export", "rebuild"),
)
# For tests and scripts: there, but not in the list.
HIDDEN = ("digest",)


class Commands(TyperGroup):
    """Finds commands by name, so that one command does not load the libraries of all."""

    # Typer brings its own copy of click, whose classes have no public name to annotate with.

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command, or None if there is none of that name."""
        return load(cmd_name) if cmd_name in COMMANDS + HIDDEN else None


def load(name: str) -> Any:
    """The command from its module."""
    word = name.replace("-", "_")
    module = importlib.import_module(f"shared.cli.{word}")
    group = getattr(module, "app", None)
    if not isinstance(group, typer.Typer):
        group = typer.Typer(add_completion=False)
        group.command()(getattr(module, word))
    command = typer.main.get_command(group)
    command.name = name
    return command


app = typer.Typer(
    cls=Commands,
    name="treue",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Event-driven loyalty points: Kafka in, an exact ledger in PostgreSQL, tiers and vouchers out.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version("treue"))
        raise typer.Exit


@app.callback()
def _treue(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run one command; a person's mistake ends in one sentence, a bug in its traceback."""
    try:
        app()
    except UsageError as error:
        fail(error)
    except BrokenPipeError:
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
