"""``treue up``: start everything, show how it comes along, and stay with it until Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.cli.common import DirOption, layout_of
from shared.errors import UsageError

if TYPE_CHECKING:
    from shared.stack.layout import Layout
    from shared.stack.local import Plan


def up(
    folder: DirOption = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default=False,
            help="Ports are counted from here (default: as the last time, else 8100).",
        ),
    ] = None,
    program: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="The program file (default: as the last time, else programs/demo.yaml).",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return as soon as all is ready.")
    ] = False,
    no_workers: Annotated[
        bool, typer.Option("--no-workers", help="Everything but the three Faust workers.")
    ] = False,
) -> None:
    """Start Kafka, PostgreSQL and the three services; keep them running until Ctrl-C."""
    layout = layout_of(folder)
    if program is not None:
        _check(program)
    start(layout, port_base, program, detach=detach, workers=not no_workers)


def start(
    layout: Layout,
    port_base: int | None = None,
    program: Path | None = None,
    *,
    detach: bool,
    workers: bool = True,
) -> None:
    """The same for other commands: raises UsageError if the stack does not come up."""
    from shared.cli.progress import Progress  # noqa: PLC0415
    from shared.stack import control  # noqa: PLC0415

    layout.create()
    progress = Progress()
    with control.locked(layout) as lock:
        if lock is None:
            raise UsageError(
                f"the stack in {layout.dir} is already running:"
                " see `treue status`, stop it with `treue down`"
            )
        leftovers = control.clear_leftovers(layout)
        if leftovers:
            progress.say(f"Ended {leftovers} processes that a killed stack had left here.")
        plan = control.settle_plan(layout, port_base, program, workers=workers)
        if program is None:
            _check(plan.program)
        _check_ports(plan)
        supervisor = control.launch(plan, lock, foreground=not detach)
    with _passing_signals_to(supervisor):
        progress.follow(supervisor, plan, detach=detach)


@contextmanager
def _passing_signals_to(supervisor: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-C and the like stop the stack; the command ends when the stack has."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {
        number: signal.signal(number, lambda *_: supervisor.terminate()) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(program: Path) -> None:
    from shared.program import load  # noqa: PLC0415

    load(program)


def _check_ports(plan: Plan) -> None:
    from shared.stack import control  # noqa: PLC0415

    taken = control.taken_ports(plan)
    if taken:
        raise UsageError(f"{'; '.join(taken)}: end that, or choose other ports with --port-base")
