"""The stack as a whole: what runs, in which order it starts and stops, and what it tells others."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.db.roles import owner_of
from shared.stack import credentials, kafka, probes, processes
from shared.stack.files import write_json
from shared.stack.kafka import Kafka
from shared.stack.layout import HOST, SERVICES, Layout, Ports
from shared.stack.postgres import Postgres
from shared.stack.processes import Spec
from shared.stack.servers import broker_of, cluster_of
from shared.stack.supervisor import Supervisor, Tell

SERVER_SECONDS_MAX = 90.0
STEP_SECONDS_MAX = 120.0
SERVICE_SECONDS_MAX = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. ``services`` is narrower than all of them only in tests."""

    layout: Layout
    ports: Ports
    program: Path
    workers: bool = True
    services: tuple[str, ...] = SERVICES


class LocalStack:
    """One run of a stack, from nothing to ready to stopped."""

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.plan = plan
        self.tell = tell
        self.ready = False
        self._state = "ready"
        self.credentials = credentials.ensure(plan.layout)
        self.supervisor = Supervisor(plan.layout.dir, tell, self._changed)
        self._started = processes.started(os.getpid())

    async def start(self) -> None:
        """Bring everything up; raises UsageError with the reason if a part does not come."""
        begun = time.monotonic()
        self._changed()
        layout, ports = self.plan.layout, self.plan.ports
        cluster = cluster_of(layout, self.credentials, ports.postgres)
        await _all(self._broker(), self._database(cluster))
        await _all(*(self._service(service) for service in self.plan.services))
        self.ready = True
        self._changed()
        self.tell("ready", seconds=round(time.monotonic() - begun, 1))

    async def _broker(self) -> None:
        layout, ports = self.plan.layout, self.plan.ports
        async with self._phase("kafka-libs", f"Kafka {kafka.version()} jars"):
            await self.supervisor.thread(kafka.jars)
        async with self._phase("kafka", f"Kafka on {HOST}:{ports.kafka}"):
            broker: Kafka = broker_of(layout, self.credentials, ports.kafka, ports.controller)
            await self.supervisor.thread(broker.prepare)
            await self._serve(broker.spec(), SERVER_SECONDS_MAX)
        async with self._phase("topics", "Topics"):
            env = {"TREUE_KAFKA": f"{HOST}:{ports.kafka}"}
            await self._once("topics", ("shared.stack.topics",), env)

    async def _database(self, cluster: Postgres) -> None:
        async with self._phase("postgres", f"PostgreSQL on {HOST}:{self.plan.ports.postgres}"):
            await self.supervisor.thread(cluster.prepare)
            await self._serve(cluster.spec(), SERVER_SECONDS_MAX)
            await cluster.ensure_databases()
        if self.plan.services:
            async with self._phase("migrations", "Migrations"):
                await _all(*(self._migrate(service) for service in self.plan.services))

    async def _migrate(self, service: str) -> None:
        module = f"services.{service}"
        # Nobody but migrations may log in as the owner of the tables.
        owner = self.credentials.dsn(owner_of(service), self.plan.ports.postgres, service)
        settings = {f"TREUE_{service.upper()}_OWNER_DATABASE": owner}
        await self._once(
            f"{service}-migrate", (module, "migrate"), self._environment(service) | settings
        )

    async def _service(self, service: str) -> None:
        roles = {"worker": self.plan.ports.worker(service), "api": self.plan.ports.api(service)}
        if not self.plan.workers:
            del roles["worker"]
        async with self._phase(service, f"{service}: {' and '.join(roles)}"):
            await _all(
                *(
                    self._serve(self._role(service, role, port), SERVICE_SECONDS_MAX)
                    for role, port in roles.items()
                )
            )

    async def _serve(self, spec: Spec, seconds: float) -> None:
        await self.supervisor.until_ready(self.supervisor.start(spec), seconds)

    async def _once(self, name: str, module: tuple[str, ...], env: dict[str, str]) -> None:
        await self.supervisor.once(self._python(name, module, env), STEP_SECONDS_MAX)

    @asynccontextmanager
    async def _phase(self, name: str, title: str) -> AsyncIterator[None]:
        begun = time.monotonic()
        self.tell("begin", name=name, title=title)
        yield
        self.tell("done", name=name, title=title, seconds=round(time.monotonic() - begun, 1))

    def _role(self, service: str, role: str, port: int) -> Spec:
        module = (f"services.{service}", role)
        spec = self._python(f"{service}-{role}", module, self._environment(service))
        return replace(spec, ready=lambda: probes.http(port))

    def _python(self, name: str, module: tuple[str, ...], env: dict[str, str]) -> Spec:
        layout = self.plan.layout
        argv = (sys.executable, "-m", *module)
        return Spec(name=name, argv=argv, log=layout.log(name), cwd=layout.run, env=env)

    def _environment(self, service: str) -> dict[str, str]:
        plan = self.plan
        settings = {
            "DATABASE": self.credentials.dsn(service, plan.ports.postgres),
            "KAFKA": f"{HOST}:{plan.ports.kafka}",
            "PROGRAM": str(plan.program),
            "PROGRAM_VERSIONS": str(plan.layout.versions),
            "HOST": HOST,
            "PORT": str(plan.ports.api(service)),
            "WORKER_PORT": str(plan.ports.worker(service)),
            "KEYS_FILE": str(plan.layout.keys_json),
            "SECRET_FILE": str(plan.layout.secret),
            "LOG_FORMAT": "json",
        }
        return {f"TREUE_{service.upper()}_{key}": value for key, value in settings.items()}

    async def stop(self) -> None:
        """The services first, then what they stand on. The data stays."""
        self.ready = False
        self.plan.layout.stack_json.unlink(missing_ok=True)
        roles = ("worker", "api")
        await self.supervisor.stop(f"{service}-{role}" for service in SERVICES for role in roles)
        await self.supervisor.stop(("kafka", "postgres"))
        # What no child answers for: a download under way, a database session that outlived its server.
        processes.sweep(self.plan.layout.dir)
        self.supervisor.close()
        self._state = "stopped"
        self._changed()

    def _changed(self) -> None:
        write_json(self.plan.layout.state_json, self.state())
        if self.ready:
            write_json(self.plan.layout.stack_json, self.stack())

    def pids(self) -> dict[str, int]:
        """Process number by name, of what runs now."""
        running = {"supervisor": os.getpid()}
        for child in self.supervisor.children.values():
            if child.pid is not None:
                running[child.spec.name] = child.pid
        return running

    def state(self) -> dict[str, Any]:
        """For `status` and `down`: also before all is ready, and when parts are dead."""
        return {
            "ready": self.ready,
            "workers": self.plan.workers,
            "supervisor": {"state": self._state, "pid": os.getpid(), "started": self._started},
            "processes": self.supervisor.records(),
        }

    def stack(self) -> dict[str, Any]:
        """The contract's ``stack.json`` and a little more."""
        plan, ports = self.plan, self.plan.ports
        workers = plan.services if plan.workers else ()
        return {
            "kafka": f"{HOST}:{ports.kafka}",
            "postgres": {
                service: self.credentials.dsn(service, ports.postgres) for service in SERVICES
            },
            **{f"{service}_url": f"http://{HOST}:{ports.api(service)}" for service in SERVICES},
            "api_key": self.credentials.api_key,
            "second_key": self.credentials.second_key,
            "pids": self.pids(),
            "version": version("treue"),
            "dir": str(plan.layout.dir),
            "port_base": ports.base,
            "ports": ports.named(workers=plan.workers),
            "program": str(plan.program),
            "worker_urls": {
                service: f"http://{HOST}:{ports.worker(service)}" for service in workers
            },
        }


async def _all(*steps: Coroutine[Any, Any, None]) -> None:
    """Run the steps side by side; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
