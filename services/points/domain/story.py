"""The parts of an explanation, as programs read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from services.points.domain.wording import Sentence
from shared.money import Rounding


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the calculation: the rule, its exact result, and both in words."""

    rule: str
    value: str
    text: Sentence


@dataclass(frozen=True, slots=True)
class ExplainedLine:
    """What one line gave; ``net`` in the purchase's currency, ``reason`` only where it earned nothing."""

    line_id: str
    sku: str
    quantity: Decimal
    net: Decimal
    points: int
    reason: str | None
    text: Sentence | None


@dataclass(frozen=True, slots=True)
class NotFired:
    """A rule that gave nothing, and the condition that failed.

    What it ``needed``, what was ``found``, and by how much that was ``missed_by`` (an amount, points, or an
    ISO 8601 period) are there where there is such a thing.
    """

    rule: str
    condition: str
    text: Sentence
    needed: str | None = None
    found: str | None = None
    missed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    """What a campaign gave: ``exact`` before tier and rounding; ``points`` of the ``asked`` that caps allowed."""

    campaign: str
    name: str | None
    exact: str
    asked: int
    points: int
    capped_by: str | None
    text: Sentence


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the shop sent and the calculation began with."""

    currency: str
    exchange_rate: Decimal | None
    order_discount: Decimal
    prices_include_tax: bool
    net_spend: Decimal


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole story of an entry; ``points`` is what the entry changed, ``total`` what stood afterwards.

    ``exact`` is the value before rounding and caps, after the multiplier. A correction has neither lines nor
    inputs of its own: those stand with the award it corrects.
    """

    kind: str
    program: str
    program_version: str
    sentence: Sentence
    steps: list[Step]
    points: int
    total: int
    base: int | None
    bonus: int | None
    exact: str
    rounding: Rounding
    tier: str | None
    multiplier: str
    inputs: Inputs | None
    lines: list[ExplainedLine]
    not_fired: list[NotFired]
    campaigns: list[Fired] = field(default_factory=list)
