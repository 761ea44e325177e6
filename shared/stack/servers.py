"""Only Kafka and PostgreSQL, for tests and benchmarks: ``with start(dir) as servers: ...``."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from shared.stack import credentials
from shared.stack.kafka import Kafka
from shared.stack.layout import HOST, Layout
from shared.stack.postgres import Postgres, account_for
from shared.stack.processes import Spec, end, find, free_ports, spawn, wait_ready

READY_SECONDS_MAX = 60.0
KILLED_SECONDS_MAX = 10.0


@dataclass(slots=True)
class Server:
    """One server process under a test's command."""

    spec: Spec
    dir: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers in its own protocol."""
        self.process = spawn(self.spec, self.dir)
        wait_ready(self.spec, self.process, READY_SECONDS_MAX)

    def stop(self) -> None:
        """Stop in good order; killed if that takes too long."""
        self._end(self.spec.stop_signal, self.spec.stop_seconds)

    def kill(self) -> None:
        """Pull the plug."""
        self._end(signal.SIGKILL, KILLED_SECONDS_MAX)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(KILLED_SECONDS_MAX)
        self.process = None


@dataclass(frozen=True, slots=True)
class Servers:
    """A running broker and cluster; ``dsn`` is the superuser's."""

    dir: Path
    bootstrap: str
    dsn: str
    kafka: Server
    postgres: Server


@contextmanager
def start(
    folder: Path,
    kafka_port: int | None = None,
    postgres_port: int | None = None,
    *,
    durable: bool = True,
) -> Iterator[Servers]:
    """Run both in ``folder`` until the block ends; ports not given are chosen among the free ones."""
    layout = Layout(folder.resolve())
    layout.create()
    chosen = free_ports(3)
    kafka_port, postgres_port = kafka_port or chosen[0], postgres_port or chosen[1]
    secrets = credentials.ensure(layout)
    broker = broker_of(layout, secrets, kafka_port, chosen[2])
    cluster = cluster_of(layout, secrets, postgres_port, durable=durable)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(broker.prepare), pool.submit(cluster.prepare)]:
            done.result()
    servers = Servers(
        dir=layout.dir,
        bootstrap=f"{HOST}:{kafka_port}",
        dsn=cluster.superuser_dsn(),
        kafka=Server(broker.spec(), layout.dir),
        postgres=Server(cluster.spec(), layout.dir),
    )
    try:
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(servers.kafka.start), pool.submit(servers.postgres.start)]:
                done.result()
        yield servers
    finally:
        servers.kafka.stop()
        servers.postgres.stop()
        end(find(layout.dir), signal.SIGKILL, 0.0)


def broker_of(
    layout: Layout, secrets: credentials.Credentials, port: int, controller_port: int
) -> Kafka:
    """The broker of a stack's folder."""
    return Kafka(
        data=layout.kafka,
        config=layout.config,
        log=layout.log("kafka"),
        run=layout.run,
        port=port,
        controller_port=controller_port,
        cluster=secrets.kafka_cluster,
    )


def cluster_of(
    layout: Layout, secrets: credentials.Credentials, port: int, *, durable: bool = True
) -> Postgres:
    """The database cluster of a stack's folder, which has to exist."""
    return Postgres(
        data=layout.postgres,
        log=layout.log("postgres"),
        port=port,
        credentials=secrets,
        account=account_for(layout.dir),
        durable=durable,
    )


def main() -> None:
    """``python -m shared.stack.servers DIR``: both servers until Ctrl-C, addresses on stdout."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with start(Path(sys.argv[1])) as servers, suppress(KeyboardInterrupt):
        print(f"TREUE_TEST_KAFKA={servers.bootstrap}")  # noqa: T201
        print(f"TREUE_TEST_POSTGRES={servers.dsn}", flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()
