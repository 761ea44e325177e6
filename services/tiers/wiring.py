"""The only place of the tiers service where settings, program, handlers and routes are put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.tiers.settings import Settings
from shared.invariants import Invariant
from shared.program import versions
from shared.service import Service, api_app

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.events.worker import WorkerSpec

MIGRATIONS = Path(__file__).parent / "migrations"


def worker(settings: Settings) -> WorkerSpec:
    """The Faust worker: points entries in, tier changes out."""
    from services.tiers import intake, jobs  # noqa: PLC0415 - only workers need them
    from shared.events.worker import WorkerSpec  # noqa: PLC0415

    rules = versions.load(settings.program, settings.program_versions)
    return WorkerSpec(
        service="tiers",
        dsn=settings.database,
        bootstrap=settings.kafka,
        host=settings.host,
        port=settings.worker_port,
        routes=intake.routes(rules),
        ignored=intake.IGNORED,
        patient=intake.PATIENT,
        gathers=False,
        job=jobs.job(rules),
    )


def api(settings: Settings) -> FastAPI:
    """The read API over this service's own database."""
    from services.tiers.api.presentation import Presenter  # noqa: PLC0415 - only APIs need them
    from services.tiers.api.routes import router  # noqa: PLC0415

    return api_app(
        "tiers",
        settings,
        migrations=MIGRATIONS,
        routers=[router],
        state={
            "presenter": Presenter.of(versions.load(settings.program, settings.program_versions))
        },
    )


def invariants(settings: Settings) -> Sequence[Invariant]:
    """What must always hold in this service's database."""
    from services.tiers.invariants import of  # noqa: PLC0415

    return of(versions.load(settings.program, settings.program_versions))


SERVICE = Service("tiers", Settings, MIGRATIONS, worker, api, invariants)
