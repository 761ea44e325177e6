"""A worker process: the Faust app, the relay, the jobs, and a small health and metrics server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import mode.loop
import structlog
from aiohttp import web
from faust.exceptions import ConsumerNotStarted
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from shared import clock, probe
from shared.db import idempotency, statements
from shared.db import pool as database
from shared.db.pool import TRANSIENT
from shared.db.types import Pool
from shared.events.app import App
from shared.events.health import Health, told
from shared.events.metrics import StreamMetrics
from shared.events.model import Route
from shared.events.relay import Relay
from shared.events.runner import Runner
from shared.telemetry.throttle import Throttle

log = structlog.get_logger()
sql = statements.load(Path(__file__).parent / "sql" / "worker.sql")

POOL_SIZE = 4
WATCH_SECONDS = 1.0
PROBE_SECONDS_MAX = 2.0
START_POLL_SECONDS = 0.1
JOB_RETRY_SECONDS = 5.0
FORGET_EVERY_SECONDS = 3600.0
# What it does not finish in this time the next owner publishes.
RELAY_END_SECONDS_MAX = 1.5
# The supervisor kills after 5 s, compose after 10.
STOP_SECONDS_MAX = 4.0
GC_THRESHOLDS = (500_000, 20, 20)

Job = Callable[[Pool, Callable[[], None]], Awaitable[None]]


async def _forget(pool: Pool, _: Callable[[], None]) -> None:
    """The job that every service has: answers to HTTP writes are kept for two days only."""
    await idempotency.forget(pool, clock.now())


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a service's wiring asks for. ``gathers``: its events come one by one, in no other service's batches."""

    service: str
    dsn: str
    bootstrap: str
    host: str
    port: int
    routes: Sequence[Route]
    ignored: Sequence[str]
    patient: Sequence[str]
    gathers: bool
    job: Job | None
    job_seconds: float = 60.0


class Worker:
    """Puts the parts together and keeps them informed of one another."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.registry = CollectorRegistry()
        self.metrics = StreamMetrics(self.registry)
        self.health = Health("postgres", "kafka")
        self.app = App(f"treue-{spec.service}", bootstrap=spec.bootstrap, gathers=spec.gathers)
        self.app.before, self.app.leaving, self.app.after = self._before, self._leaving, self._after
        self.app.consume(sorted({route.topic for route in spec.routes}), spec.patient)
        self._tasks: list[asyncio.Task[None]] = []
        self._dying: asyncio.Task[None] | None = None
        self._pool: Pool | None = None
        self._web: web.AppRunner | None = None

    def run(self) -> None:
        """Until SIGTERM; exits the process."""
        # Faust's spinner writes control characters to stdout, and a supervisor puts stdout into the log.
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            worker = faust.Worker(
                self.app,
                stdout=nowhere,
                loglevel="WARN",
                quiet=True,
                override_logging=False,
                redirect_stdouts=False,
                logging_config={"version": 1, "disable_existing_loggers": False},
            )
            sys.exit(worker.execute_from_commandline())

    async def _before(self) -> None:
        spec = self.spec
        await self._serve()
        self._pool = await database.create(
            spec.dsn, name=f"treue-{spec.service}-worker", size=POOL_SIZE
        )
        relay = Relay(
            dsn=spec.dsn,
            bootstrap=spec.bootstrap,
            service=spec.service,
            health=self.health,
            metrics=self.metrics,
        )
        self.app.runner = Runner(
            service=spec.service,
            routes=spec.routes,
            ignored=spec.ignored,
            pool=self._pool,
            health=self.health,
            metrics=self.metrics,
            committed=relay.take,
            packs=True,
        )
        self.app.runner.owns_relay = lambda: relay.owner
        self._relay = relay
        self._tasks = [self._start(relay.run()), self._start(self._watch())]
        if spec.job is not None:
            self._tasks.append(self._start(self._time(spec.job, spec.job_seconds, relay)))
        self._tasks.append(self._start(self._time(_forget, FORGET_EVERY_SECONDS, relay)))
        # Faust gives up when it finds no broker at its start: we wait for one instead, red meanwhile.
        while not self.health.is_up("kafka") and not self.app.should_stop:  # noqa: ASYNC110
            await asyncio.sleep(START_POLL_SECONDS)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A worker without its relay, watch or jobs looks alive and is not: it had better be started anew."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("background work failed: the process stops", exc_info=error)
            self._dying = asyncio.create_task(self.app.crash(error))

    def _leaving(self) -> None:
        """See to it that the process ends soon, also when a server hangs: clients take leave of it at length."""
        patience = threading.Timer(STOP_SECONDS_MAX, self._leave)
        patience.daemon = True
        patience.start()

    def _leave(self) -> None:
        log.warning("stopped without taking leave: a server hangs; the uncommitted is read again")
        os._exit(1 if self.app.crashed else 0)

    async def _after(self) -> None:
        if self.app.runner is not None:
            self.app.runner.stop()
            self._relay.stop()
        if self._tasks:
            await asyncio.wait(self._tasks[:1], timeout=RELAY_END_SECONDS_MAX)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            self._pool.terminate()
        if self._web is not None:
            await self._web.cleanup()

    async def _watch(self) -> None:
        """Ask both servers whether they are there, and read the figures an operator looks at."""
        while True:
            await asyncio.gather(self._look_at_postgres(), self._look_at_kafka())
            await self._look_at_lag()
            for name, component in self.health.components().items():
                self.metrics.up.labels(name).set(component.ok)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_at_postgres(self) -> None:
        if self._pool is None:
            return
        try:
            (row,) = await database.ask(self._pool, sql.figures, within=PROBE_SECONDS_MAX)
        except TRANSIENT as error:
            self.health.down("postgres", told(error))
        else:
            self.health.up("postgres")
            self.metrics.outbox.set(row["outbox"])
            self.metrics.outbox_age.set(row["outbox_age"])
            self.metrics.dead_letters.set(row["dead_letters"])

    async def _look_at_kafka(self) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                await probe.broker(self.spec.bootstrap)
        except (OSError, TimeoutError) as error:
            self.health.down("kafka", told(error))
        else:
            self.health.up("kafka")

    async def _look_at_lag(self) -> None:
        """Records behind, by topic: the fetcher's view of the ends against the positions in PostgreSQL."""
        if self._pool is None or not self.app.assigned():
            return
        try:
            rows = await database.ask(self._pool, sql.positions, within=PROBE_SECONDS_MAX)
            ends = self.app.ends()
        except (*TRANSIENT, ConsumerNotStarted):
            return
        stored = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
        behind: Counter[str] = Counter()
        for (topic, partition), end in ends.items():
            behind[topic] += max(0, end - stored.get((topic, partition), 0))
        for topic, records in behind.items():
            self.metrics.lag.labels(topic).set(records)

    async def _time(self, job: Job, every_seconds: float, relay: Relay) -> None:
        """What time alone does; a failed run is repeated, for the job is resumable."""
        while True:
            try:
                if self._pool is not None:
                    await job(self._pool, relay.wake)
                await asyncio.sleep(every_seconds)
            except TRANSIENT as error:
                log.warning("job waits for the database", error=told(error))
                await asyncio.sleep(JOB_RETRY_SECONDS)
            except Exception:
                log.exception("job failed")
                await asyncio.sleep(every_seconds)

    async def _serve(self) -> None:
        site = web.Application()
        site.router.add_get("/livez", self._livez)
        site.router.add_get("/readyz", self._readyz)
        site.router.add_get("/metrics", self._metrics)
        self._web = web.AppRunner(site, access_log=None)
        await self._web.setup()
        await web.TCPSite(self._web, self.spec.host, self.spec.port).start()

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"live": not self.app.crashed}, status=503 if self.app.crashed else 200
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        assigned = bool(self.app.runner) and not self.app.rebalancing and self.app.assigned()
        report = self.health.report() | {"assigned": assigned}
        ready = self.health.ready and assigned
        return web.json_response(report | {"ready": ready}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def run(spec: WorkerSpec) -> None:
    """Run a worker until it is told to stop. uvloop goes in before anything makes a loop."""
    mode.loop.use("uvloop")
    # Batches make hundreds of thousands of short-lived objects without cycles: at its default thresholds the
    # cyclic collector takes a third of the CPU to find nothing (docs/operating/performance.md).
    gc.set_threshold(*GC_THRESHOLDS)
    # What is away is told by the health, once; the libraries' own words are for the details.
    for handler in logging.getLogger().handlers:
        handler.addFilter(Throttle("aiokafka", "mode", "faust"))
    began = time.perf_counter()
    worker = Worker(spec)
    log.info(
        "worker starts",
        service=spec.service,
        prepared_seconds=round(time.perf_counter() - began, 2),
    )
    worker.run()
