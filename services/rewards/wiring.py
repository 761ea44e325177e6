"""The only place of the rewards service where settings, program, handlers and routes are put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.rewards.settings import Settings
from shared.invariants import Invariant
from shared.program import versions
from shared.service import Service, api_app

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.events.worker import WorkerSpec

MIGRATIONS = Path(__file__).parent / "migrations"


def worker(settings: Settings) -> WorkerSpec:
    """The Faust worker: tier changes in, vouchers and events about them out."""
    from services.rewards import intake, jobs  # noqa: PLC0415 - only workers need them
    from shared.events.worker import WorkerSpec  # noqa: PLC0415

    rules = versions.load(settings.program, settings.program_versions)
    return WorkerSpec(
        service="rewards",
        dsn=settings.database,
        bootstrap=settings.kafka,
        host=settings.host,
        port=settings.worker_port,
        routes=intake.routes(rules, settings.keyring()),
        ignored=intake.IGNORED,
        patient=intake.PATIENT,
        gathers=False,
        job=jobs.job(),
    )


def api(settings: Settings) -> FastAPI:
    """The read API over this service's own database."""
    from services.rewards.api.routes import router  # noqa: PLC0415 - only APIs need them

    return api_app(
        "rewards",
        settings,
        migrations=MIGRATIONS,
        routers=[router],
        state={
            "program": versions.load(settings.program, settings.program_versions),
            "keyring": settings.keyring(),
        },
    )


def invariants(settings: Settings) -> Sequence[Invariant]:
    """What must always hold in this service's database."""
    from services.rewards.invariants import of  # noqa: PLC0415

    return of(versions.load(settings.program, settings.program_versions), settings.keyring())


SERVICE = Service("rewards", Settings, MIGRATIONS, worker, api, invariants)
