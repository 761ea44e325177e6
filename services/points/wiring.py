"""The only place of the points service where settings, program, handlers and routes are put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.points.settings import Settings
from shared.invariants import Invariant
from shared.program import versions
from shared.service import Facts, Service, api_app

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.events.worker import WorkerSpec

MIGRATIONS = Path(__file__).parent / "migrations"


def worker(settings: Settings) -> WorkerSpec:
    """The Faust worker: purchases and tier changes in, ledger entries and events out."""
    from services.points import intake, jobs  # noqa: PLC0415 - only workers need them
    from shared.events.worker import WorkerSpec  # noqa: PLC0415

    rules = versions.load(settings.program, settings.program_versions)
    return WorkerSpec(
        service="points",
        dsn=settings.database,
        bootstrap=settings.kafka,
        host=settings.host,
        port=settings.worker_port,
        routes=intake.routes(rules),
        ignored=intake.IGNORED,
        patient=intake.PATIENT,
        gathers=True,
        job=jobs.job(rules),
        job_seconds=jobs.EVERY_SECONDS,
    )


def api(settings: Settings) -> FastAPI:
    """The read API over this service's own database."""
    from services.points.api import corrections, customers, quote, refunds, reports, spending  # noqa: PLC0415
    from services.points.api.routes import router  # noqa: PLC0415

    return api_app(
        "points",
        settings,
        migrations=MIGRATIONS,
        routers=[
            router,
            refunds.router,
            reports.router,
            corrections.router,
            customers.router,
            spending.router,
            quote.router,
        ],
        state={"program": versions.load(settings.program, settings.program_versions)},
    )


def invariants(settings: Settings) -> Sequence[Invariant]:
    """What must always hold in this service's database, and that nobody has edited it."""
    from services.points.invariants import PROOF, of  # noqa: PLC0415

    return (*of(versions.load(settings.program, settings.program_versions)), *PROOF)


def facts() -> Facts:
    """What no event tells: spending, corrections, and what else people and tills caused."""
    from services.points.ledger import facts as kept  # noqa: PLC0415

    return Facts(kept.give, kept.take)


SERVICE = Service("points", Settings, MIGRATIONS, worker, api, invariants, facts)
