"""The rewards API: a customer's vouchers, and the catalogue."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from services.rewards import views
from services.rewards.api.schemas import (
    Articles,
    Cause,
    Reward,
    RewardPage,
    Voucher,
    VoucherPage,
    VoucherState,
)
from services.rewards.domain.codes import Keyring
from services.rewards.domain.terms import decimal_text, terms_from_json
from shared import clock
from shared.http import problems
from shared.http.app import router as new_router
from shared.http.database import connection
from shared.http.keys import require
from shared.http.paging import Cursor, CursorText, Limit
from shared.http.params import CUSTOMER, CustomerId
from shared.http.problems import Problem
from shared.http.responses import answer
from shared.program import Program

if TYPE_CHECKING:
    from asyncpg import Record

WRONG_SECRET = problems.define(
    "wrong-voucher-secret",
    500,
    "Wrong voucher secret",
    "The secret file of the API is not the one the vouchers were made with: mount the right one.",
)
READ = [require("rewards:read")]
IN_LIST = problems.declare(
    "customer-not-found", "validation-failed", "invalid-cursor", WRONG_SECRET
)

State = Annotated[
    VoucherState | None,
    Query(description="Only vouchers in this state; without it, all but the revoked ones."),
]

router = new_router("rewards")
_vouchers_cursor = Cursor("rewards.vouchers", tuple[datetime, UUID])
_rewards_cursor = Cursor("rewards.catalog", tuple[str])


@router.get(
    CUSTOMER + "/vouchers",
    response_model=VoucherPage,
    dependencies=READ,
    responses=IN_LIST,
    summary="A customer's vouchers, newest first",
)
async def vouchers(
    request: Request,
    customer_id: CustomerId,
    state: State = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Response:
    """A voucher is issued once per cause. If a late event takes its cause away, it is revoked."""
    key = _vouchers_cursor.decode(cursor)
    async with connection(request) as conn:
        rows = await views.vouchers(conn, customer_id, state, key, limit + 1, clock.now())
    if rows is None:
        raise problems.customer_not_found(customer_id)
    shown = rows[:limit]
    last = (shown[-1]["issued_at"], shown[-1]["voucher_id"]) if shown else None
    keyring: Keyring = request.app.state.keyring
    data = [_voucher(row, keyring) for row in shown]
    return answer(_vouchers_cursor.page(VoucherPage, data, last, more=len(rows) > limit))


@router.get(
    "/v1/rewards",
    response_model=RewardPage,
    dependencies=READ,
    responses=problems.declare("validation-failed", "invalid-cursor"),
    summary="What customers get for points",
)
async def rewards(request: Request, limit: Limit = 20, cursor: CursorText = None) -> Response:
    """The catalogue of the program in force, in its order; empty while the program has none."""
    running: Program = request.app.state.program
    running.look()
    program = running.at(clock.now())
    key = _rewards_cursor.decode(cursor)
    ids = [reward.id for reward in program.rewards.catalog]
    start = ids.index(key[0]) + 1 if key and key[0] in ids else 0
    shown = program.rewards.catalog[start : start + limit]
    data = [Reward.model_validate(reward, from_attributes=True) for reward in shown]
    last = (shown[-1].id,) if shown else None
    more = len(ids) > start + limit
    return answer(_rewards_cursor.page(RewardPage, data, last, more=more))


def _voucher(row: Record, keyring: Keyring) -> Voucher:
    terms = terms_from_json(row["terms"])
    return Voucher(
        id=row["voucher_id"],
        code=_code(row, keyring),
        voucher=row["definition"],
        name=terms.name,
        kind=terms.kind,
        value=decimal_text(terms.value),
        currency=terms.currency,
        min_order=decimal_text(terms.min_order),
        max_discount=decimal_text(terms.max_discount),
        sku=terms.sku,
        include=Articles(skus=terms.include.skus, categories=terms.include.categories),
        exclude=Articles(skus=terms.exclude.skus, categories=terms.exclude.categories),
        combinable=terms.combinable,
        max_redemptions=terms.max_redemptions,
        state=row["state_now"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        cause=Cause(type=row["cause_type"], id=row["cause_id"]),
    )


def _code(row: Record, keyring: Keyring) -> str:
    """The voucher's code; refused where our secret is another than the one that made it."""
    voucher_id, version = row["voucher_id"], row["key_version"]
    if not keyring.fits(voucher_id, version, row["code_hash"]):
        raise Problem(WRONG_SECRET, "The codes of these vouchers cannot be shown at the moment.")
    return keyring.code(voucher_id, version)
