"""``python -m shared.stack.setup``: what the local servers need, fetched ahead of their first start."""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console

from shared.errors import UsageError
from shared.stack import kafka, postgres


def main() -> int:
    """Fetch what is missing, with progress; quick when nothing is."""
    console = Console(stderr=True, highlight=False)
    try:
        _fetch(console)
    except UsageError as error:
        console.print(f"setup: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    return 0


def _fetch(console: Console) -> None:
    database = subprocess.run(
        [postgres.binary("postgres"), "--version"], check=False, capture_output=True, text=True
    )
    if database.returncode != 0:
        raise UsageError(f"the PostgreSQL binaries do not run here: {database.stderr.strip()}")
    if not kafka.libs_dir().is_dir():
        with console.status(f"Fetching Kafka {kafka.version()} with Maven …"):
            kafka.jars()
        console.print(f"[green]✓[/] Kafka {kafka.version()}")
        console.print(f"[green]✓[/] {database.stdout.strip()}")
    if not kafka.archive_path(kafka.jars()).exists():
        with console.status("Preparing quick starts of Kafka (once, some 10 s) …"):
            _quicken(console)


def _quicken(console: Console) -> None:
    """The class archive saves a second at each start: good to have, nothing to fail for."""
    try:
        kafka.make_archive()
    except (OSError, subprocess.SubprocessError, UsageError) as error:
        console.print(f"Kafka will start a second slower: {error}", markup=False, soft_wrap=True)
    else:
        console.print("[green]✓[/] Kafka's quick start")


if __name__ == "__main__":
    sys.exit(main())
