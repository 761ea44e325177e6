"""``python -m shared.stack.setup``: what a machine needs before the first start, fetched and checked.

The class archive is made here too: it takes some seconds once and saves one at every start of the broker.
"""

from __future__ import annotations

import subprocess
import sys
import time

from shared.errors import TreueError
from shared.stack import kafka, postgres
from shared.stack.layout import checkout


def main() -> int:
    """Fetch, check, say what is there; 0 when ``treue up`` can start."""
    began = time.monotonic()
    try:
        known = kafka.libs_dir().is_dir()
        if not known:
            _say(f"Fetching Kafka {kafka.version()} with Maven (some ten seconds) …")
        jars = kafka.jars()
        if not kafka.archive_path(jars).exists():
            _say("Preparing Kafka's class archive (some seconds, once) …")
            _quicken()
        told = subprocess.run(
            [postgres.binary("postgres"), "--version"], check=True, capture_output=True, text=True
        )
    except (TreueError, OSError, subprocess.SubprocessError) as error:
        _say(f"setup: {error}")
        return 1
    where = kafka.libs_dir().relative_to(checkout())
    _say(
        f"Kafka {kafka.version()} ({len(jars)} jars in {where}), {told.stdout.strip()}:"
        f" ready after {time.monotonic() - began:.1f} s." + ("" if known else " Next: make demo")
    )
    return 0


def _quicken() -> None:
    """The archive is good to have and nothing to fail for."""
    try:
        kafka.make_archive()
    except (TreueError, OSError, subprocess.SubprocessError) as error:
        _say(f"Kafka will start a second slower: {error}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
