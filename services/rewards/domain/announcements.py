"""What others hear of a voucher: events whose ids are a function of their content."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.rewards.domain.terms import decimal_text
from services.rewards.domain.vouchers import Step, Voucher
from shared.contracts import rewards
from shared.contracts.rewards import VoucherChanged
from shared.ids import derive

_TYPES = {
    Step.ISSUED: rewards.VOUCHER_ISSUED,
    Step.REDATED: rewards.VOUCHER_ISSUED,
    Step.REVOKED: rewards.VOUCHER_REVOKED,
    Step.REINSTATED: rewards.VOUCHER_REINSTATED,
    Step.EXPIRED: rewards.VOUCHER_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event about a voucher, ready to be published under the customer's key."""

    type: str
    id: UUID
    time: datetime
    data: VoucherChanged


def announce(
    customer_id: str,
    revision: int,
    step: Step,
    voucher: Voucher,
    now: datetime,
) -> Announcement:
    """Tell a step of a voucher; told twice, it has the same id."""
    issued, expires = voucher.issued_at, voucher.expires_at
    dates = (issued.isoformat(), expires.isoformat() if expires else "")
    told_of = () if step is Step.EXPIRED else (str(revision),)
    return Announcement(
        type=_TYPES[step],
        id=derive("voucher-event", step, str(voucher.id), *dates, *told_of),
        time=now,
        data=VoucherChanged(
            customer_id=customer_id,
            voucher_id=str(voucher.id),
            voucher=voucher.definition,
            kind=voucher.terms.kind,
            value=decimal_text(voucher.terms.value),
            currency=voucher.terms.currency,
            issued_at=issued,
            expires_at=expires,
            cause=voucher.cause,
            revision=revision,
        ),
    )
