"""Whose account PostgreSQL runs under: never root's, and able to enter the stack's folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from shared.errors import UsageError

CANDIDATES = ("postgres", "nobody")
ROOT = 0


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account that root lends to a process.

    ``may_traverse`` keeps the one right to pass folders closed to others (a stack under a private
    folder of root), because PostgreSQL enters its data folder by its full path.
    """

    name: str
    uid: int
    gid: int
    may_traverse: bool = False

    def wrap(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command that runs ``argv`` as this account, in the same process."""
        rights: tuple[str, ...] = ()
        if self.may_traverse:
            rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        identity = (f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
        return (_setpriv(), *identity, *rights, "--", *argv)

    def own(self, path: Path) -> None:
        """Give the file to this account."""
        os.chown(path, self.uid, self.gid)

    def can_run(self, binary: Path, folder: Path) -> bool:
        """Try it: access(2) and mode bits do not tell what a lent right allows."""
        script = ("sh", "-c", 'cd "$1" && exec "$2" --version', "sh", str(folder), str(binary))
        return subprocess.run(self.wrap(script), check=False, capture_output=True).returncode == 0


@cache
def _setpriv() -> str:
    path = shutil.which("setpriv")
    if path is None:
        raise UsageError(
            "PostgreSQL refuses to run as root and `setpriv` (util-linux) is missing:"
            " install it, or start the stack as an ordinary user"
        )
    return path


def choose(binary: Path, folder: Path) -> Account | None:
    """The account for PostgreSQL in ``folder``; None when the present one will do."""
    if os.geteuid() != ROOT:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _enabled(Account(name, entry.pw_uid, entry.pw_gid), binary, folder)
    raise UsageError(
        f"PostgreSQL refuses to run as root and there is no account {' or '.join(CANDIDATES)}:"
        " start the stack as an ordinary user"
    )


def _enabled(account: Account, binary: Path, folder: Path) -> Account:
    for may_traverse in (False, True):
        candidate = Account(account.name, account.uid, account.gid, may_traverse)
        if candidate.can_run(binary, folder):
            return candidate
    raise UsageError(
        f"PostgreSQL runs as {account.name}, who cannot enter {folder} or run {binary}:"
        " choose a --dir (and a checkout) in folders open to others, such as /var/tmp/treue"
    )
