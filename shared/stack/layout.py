"""Where the local stack keeps things: its folder, its ports, the checkout it was started from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UsageError

SERVICES = ("points", "tiers", "rewards")
DEFAULT_PORT_BASE = 8100
HOST = "127.0.0.1"
PORT_MAX = 65535


def checkout() -> Path:
    """The folder of the checkout, or the current one where we were installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def resolve_dir(given: Path | None) -> Path:
    """``--dir``, else TREUE_DIR, else ``.treue/stack`` in the checkout; always absolute."""
    if given is not None:
        return given.expanduser().resolve()
    from_environment = os.environ.get("TREUE_DIR", "")
    if from_environment:
        return Path(from_environment).expanduser().resolve()
    return checkout() / ".treue" / "stack"


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of a stack, counted from its base."""

    base: int = DEFAULT_PORT_BASE

    def __post_init__(self) -> None:
        if not 1 <= self.base <= PORT_MAX - 93:
            raise UsageError(
                f"--port-base {self.base} leaves no room: choose one from 1024 to {PORT_MAX - 93}"
            )

    def api(self, service: str) -> int:
        """The port of a service's read API."""
        return self.base + 1 + SERVICES.index(service)

    def worker(self, service: str) -> int:
        """The port of a worker's health and metrics."""
        return self.base + 11 + SERVICES.index(service)

    @property
    def postgres(self) -> int:
        """The database cluster's port."""
        return self.base + 32

    @property
    def kafka(self) -> int:
        """The port that producers and consumers connect to."""
        return self.base + 92

    @property
    def controller(self) -> int:
        """The port the broker uses with itself."""
        return self.base + 93

    def named(self, *, workers: bool = True) -> dict[str, int]:
        """Port by the name of the process that listens on it."""
        ports = {"kafka": self.kafka, "kafka-controller": self.controller}
        ports["postgres"] = self.postgres
        ports |= {f"{service}-api": self.api(service) for service in SERVICES}
        if workers:
            ports |= {f"{service}-worker": self.worker(service) for service in SERVICES}
        return ports


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one stack. Those that hold secrets are readable by their owner only."""

    dir: Path

    @property
    def kafka(self) -> Path:
        """The broker's data."""
        return self.dir / "kafka"

    @property
    def postgres(self) -> Path:
        """The cluster's data."""
        return self.dir / "postgres"

    @property
    def config(self) -> Path:
        """The broker's settings, written at each start."""
        return self.dir / "config"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.dir / "logs"

    @property
    def run(self) -> Path:
        """Working folder of the processes: what a library drops there is in nobody's way."""
        return self.dir / "run"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; says who it is."""
        return self.dir / "lock"

    @property
    def stack_json(self) -> Path:
        """How to reach the stack: there while it is ready."""
        return self.dir / "stack.json"

    @property
    def state_json(self) -> Path:
        """What the supervisor knows of each process."""
        return self.dir / "state.json"

    @property
    def settings_json(self) -> Path:
        """What `up` was told and keeps for the next time."""
        return self.dir / "settings.json"

    @property
    def credentials_json(self) -> Path:
        """API key and passwords."""
        return self.dir / "credentials.json"

    @property
    def keys_json(self) -> Path:
        """The API keys' hashes and scopes, for the services."""
        return self.dir / "keys.json"

    @property
    def secret(self) -> Path:
        """What the voucher codes are derived from."""
        return self.dir / "secret"

    @property
    def program(self) -> Path:
        """The copy of the program file that runs."""
        return self.dir / "program.yaml"

    @property
    def versions(self) -> Path:
        """Later versions of the program, by the instant they are valid from."""
        return self.dir / "program.d"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.dir, self.config, self.logs, self.run):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"{folder} cannot be created ({error.strerror}): choose another --dir"
                ) from error
