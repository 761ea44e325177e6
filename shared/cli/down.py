"""``treue down``: stop everything of a stack, however it was started or left."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.cli.common import DirOption, layout_of
from shared.errors import UsageError


def down(
    folder: DirOption = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove the stack's data, too.")] = False,
) -> None:
    """Stop the stack and leave no process behind; the data stays unless --wipe is given."""
    from rich.console import Console  # noqa: PLC0415

    from shared.stack import control  # noqa: PLC0415
    from shared.stack.processes import POSTGRES_CHILD  # noqa: PLC0415

    layout = layout_of(folder)
    console = Console(stderr=True, highlight=False)
    if not layout.lock.exists():
        console.print(f"No stack has been started in {layout.dir}.")
        return
    found = [one for one in control.running(layout) if one.name != POSTGRES_CHILD]
    with console.status("Stopping …"):
        left = control.stop(layout)
    if left:
        told = ", ".join(f"{one.name} (pid {one.pid})" for one in left)
        raise UsageError(f"these processes cannot be ended: {told}; do you own them?")
    if wipe:
        control.wipe(layout)
    what = f"Stopped {len(found)} processes" if found else "Nothing was running"
    console.print(f"{what}; {'the data is gone' if wipe else 'the data stays'} ({layout.dir}).")
