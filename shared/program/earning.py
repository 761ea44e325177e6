"""How points are earned, as a program file describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from shared.clock import Period, RoundUp
from shared.money import Rounding
from shared.program.base import Section
from shared.program.fields import (
    AnyPeriod,
    ClockTime,
    Count,
    Flag,
    Id,
    IdSet,
    MaybeCount,
    MaybeMultiplier,
    MaybePositive,
    MaybeSomeDays,
    MaybeText,
    Moment,
    Positive,
    WrittenSet,
    choice,
)
from shared.program.values import as_list

ExpiryKind = Literal["none", "after", "inactivity"]
RefundPolicy = Literal["allow_negative", "clamp_to_zero"]
LineKind = Literal["gift_card", "shipping", "fee", "tip"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Base(Section):
    """So many points for so much money; exact, and rounded once for the whole purchase."""

    points: Count = Field(description="this many points …")
    per: Positive = Field(description="… for this much money; what is between counts in parts")


class Exclude(Section):
    """Lines of a purchase that earn nothing."""

    kinds: Annotated[
        frozenset[Annotated[LineKind, choice(LineKind)]],
        Field(strict=False),
        BeforeValidator(as_list),
    ] = Field(
        default=frozenset({"gift_card", "shipping", "fee", "tip"}), description="kinds of lines"
    )
    skus: WrittenSet = Field(default=frozenset(), description="article numbers, as written")
    categories: WrittenSet = Field(default=frozenset(), description="categories of articles")


class Expiry(Section):
    """When points stop counting."""

    kind: Annotated[ExpiryKind, choice(ExpiryKind)] = Field(
        default="after",
        description="`after`: some time after they became available; `none`: never; `inactivity`:"
        " some time after the customer's last purchase or rewarded activity, all points at once",
    )
    after: MaybeSomeDays = Field(default=None, description="how long; through the end of that day")
    round_up: Annotated[RoundUp | None, choice(RoundUp)] = Field(
        default=None, description="on to the end of the month, quarter or year"
    )


class Hours(Section):
    """A part of the day, on the program's wall clock."""

    from_: ClockTime = Field(alias="from", description="included")
    until: ClockTime = Field(description="excluded; before `from`: on the next day")


class When(Section):
    """What must hold for a campaign to count; everything that is named, at once."""

    categories: WrittenSet = Field(
        default=frozenset(), description="lines of these categories: only they are multiplied"
    )
    skus: WrittenSet = Field(
        default=frozenset(), description="lines of these articles: only they are multiplied"
    )
    shops: IdSet = Field(default=frozenset(), description="in these shops")
    channels: WrittenSet = Field(default=frozenset(), description="through these channels")
    weekdays: Annotated[
        frozenset[Annotated[Weekday, choice(Weekday)]],
        Field(strict=False),
        BeforeValidator(as_list),
    ] = Field(default=frozenset(), description="on these days of the week")
    hours: Hours | None = Field(default=None, description="at this time of the day")
    tiers: IdSet = Field(
        default=frozenset(), description="for customers of these levels before the purchase"
    )
    minimum: MaybePositive = Field(
        default=None, description="least eligible value of the whole purchase"
    )
    first_purchase: Flag = Field(default=False, description="only on a customer's first purchase")


class Cap(Section):
    """The most a campaign gives, in points."""

    per_purchase: MaybeCount = Field(default=None, description="points a purchase")
    per_customer: MaybeCount = Field(
        default=None, description="points a customer, in the order of the purchases"
    )
    total: MaybeCount = Field(default=None, description="points in all, as they are given away")


class Campaign(Section):
    """More points for a while."""

    id: Id = Field(description="how entries call it")
    name: MaybeText = Field(default=None, description="what customers read")
    from_: Moment = Field(alias="from", description="first day, or first moment")
    until: Moment = Field(description="last day, or the moment it ends")
    multiplier: MaybeMultiplier = Field(default=None, description="times the points; more than 1")
    bonus: MaybeCount = Field(default=None, description="this many points on top")
    exclusive: Flag = Field(default=False, description="of several exclusive ones, the best counts")
    when: When = Field(default=When(), description="what must hold")
    cap: Cap = Field(default=Cap(), description="the most it gives")


class Limit(Section):
    """How often something counts."""

    times: Count = Field(description="this many times …")
    per: MaybeSomeDays = Field(default=None, description="… in each such period; without: ever")


class Activity(Section):
    """Points for something that is not a purchase."""

    activity: Id = Field(description="the `activity` of the event")
    points: Count = Field(description="how many")
    referrer: MaybeCount = Field(
        default=None,
        description="how many for who brought this customer: with it, both get theirs after this"
        " customer's first purchase",
    )
    limit: Limit | None = Field(
        default=None, description="how often it counts; of referrals, for who brought them"
    )


class Earning(Section):
    """How points are earned, when they count, and when they expire."""

    base: Base = Field(description="points for money")
    point_value: MaybePositive = Field(
        default=None, description="what a point is worth, in money: only for reports"
    )
    rounding: Annotated[Rounding, choice(Rounding)] = Field(
        default="floor", description="how a purchase's exact points become whole: once, at the end"
    )
    net_of_tax: Flag = Field(default=False, description="earn on prices without tax")
    exclude: Exclude = Field(default=Exclude(), description="what earns nothing")
    available_after: AnyPeriod = Field(
        default=Period(), description="how long points are pending before they can be spent"
    )
    expiry: Expiry = Field(default=Expiry(kind="none"), description="when points stop counting")
    refunds: Annotated[RefundPolicy, choice(RefundPolicy)] = Field(
        default="allow_negative",
        description="points to take back that are spent already: a deficit, or written off",
    )
    campaigns: Annotated[tuple[Campaign, ...], BeforeValidator(as_list)] = Field(
        default=(), description="more points for a while"
    )
    activities: Annotated[tuple[Activity, ...], BeforeValidator(as_list)] = Field(
        default=(), description="points for something that is not a purchase"
    )
