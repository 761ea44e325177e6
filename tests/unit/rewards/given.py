"""Programs and timelines for the tests of rewards."""

from __future__ import annotations

from datetime import UTC, datetime

from services.rewards.domain.codes import Keyring
from shared import program as programs
from shared.contracts.tiers import ChangeKind, TierChanged, TierMove
from shared.program import Program

RULES = """
program: test
name: Test
currency: {currency}
timezone: {timezone}
earning: {{base: {{points: 1, per: "1.00"}}}}
tiers:
  window: {{kind: rolling, length: P12M}}
  levels:
    - {{id: bronze, name: Bronze, threshold: 0}}
    - {{id: silver, name: Silber, threshold: 500, on_reach: [{silver}]}}
    - {{id: {top}, name: Gold, threshold: 2000, on_reach: [{gold}]}}
vouchers:
  ten: {{kind: percent, percent: "10.0", valid_for: {valid_for}, max_discount: "30"}}
  cash: {{kind: amount, amount: "25", min_order: "50.00", name: Danke}}
  ship: {{kind: free_shipping, valid_for: P30D}}
"""
SECRET = "".join(f"{byte:02x}" for byte in range(7, 39))
KEYRING = Keyring.parse(SECRET)


def program(
    *,
    timezone: str = "Europe/London",
    valid_for: str = "P90D",
    silver: str = "ten",
    gold: str = "cash, ship",
    currency: str = "GBP",
    top: str = "gold",
) -> Program:
    """Silver gives ``ten``, gold gives ``cash`` and ``ship``, unless said otherwise."""
    return programs.parse(
        RULES.format(
            timezone=timezone,
            valid_for=valid_for,
            silver=silver,
            gold=gold,
            currency=currency,
            top=top,
        )
    )


def at(text: str) -> datetime:
    """An instant from its ISO form; UTC unless it says otherwise."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def move(tier: str, since: str, reach: int = 1, kind: ChangeKind = "upgraded") -> TierMove:
    """A step of a customer's way."""
    return TierMove(kind, tier, None, "1", at(since), None, reach, "entry")


def changed(customer_id: str, revision: int, *timeline: TierMove) -> TierChanged:
    """What tiers tells about a customer."""
    return TierChanged(customer_id, revision, timeline[-1] if timeline else NOWHERE, list(timeline))


NOWHERE = move("bronze", "2020-01-01", 0, "downgraded")
