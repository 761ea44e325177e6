"""A loyalty program: the rules of one program file, read-only, with the version that names them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr

from shared.clock import Period
from shared.errors import TreueError
from shared.program.base import Section
from shared.program.corrections import Corrections
from shared.program.earning import Earning
from shared.program.fields import (
    Currency,
    Days,
    Flag,
    Id,
    Ids,
    MaybeSomeDays,
    Multiplier,
    NotNegative,
    Text,
    Timezone,
    choice,
)
from shared.program.values import as_list, as_mapping
from shared.program.vouchers import Rewards, VoucherDefinition

log = logging.getLogger(__name__)

Enrolment = Literal["automatic", "opt_in"]
Basis = Literal["points", "spend", "purchases"]
WindowKind = Literal["rolling", "calendar_year", "lifetime", "anniversary"]
Downgrade = Literal["full", "one_level", "none"]

VERSION_CHARS = 12


class Window(Section):
    """The time in which a customer qualifies."""

    kind: Annotated[WindowKind, choice(WindowKind)] = Field(description="which time counts")
    length: MaybeSomeDays = Field(
        default=None, description="how long; only for `rolling`, and needed there"
    )


class Level(Section):
    """One tier."""

    id: Id = Field(description="how events and URLs call it")
    name: Text = Field(description="what customers read")
    threshold: NotNegative = Field(description="reached with this much, included")
    multiplier: Multiplier = Field(default=Fraction(1), description="times the points")
    on_reach: Ids = Field(default=(), description="vouchers given each time it is reached")


class Tiers(Section):
    """Levels of customers and how they are reached and lost."""

    basis: Annotated[Basis, choice(Basis)] = Field(
        default="points", description="what is counted; points before any tier's multiplier"
    )
    window: Window = Field(description="the time in which a customer qualifies")
    downgrade: Annotated[Downgrade, choice(Downgrade)] = Field(
        default="full", description="where to, when a level runs out unmet"
    )
    grace: Days = Field(default=Period(), description="how much later a level is lost")
    levels: Annotated[tuple[Level, ...], BeforeValidator(as_list)] = Field(
        description="from the lowest to the highest threshold"
    )


def base_level(levels: Sequence[Level]) -> Level | None:
    """The level that asks for nothing: customers are on it without having reached it. None if there is none."""
    return levels[0] if levels and levels[0].threshold == 0 else None


class Guests(Section):
    """Purchases without a customer."""

    claim_within: MaybeSomeDays = Field(
        default=None, description="how long who signs up may claim one; without: never"
    )


class Program(Section):
    """All rules of one program."""

    id: Id = Field(alias="program", description="the program's id")
    name: Text = Field(description="what customers read")
    currency: Currency = Field(description="ISO 4217; every amount of this file is in it")
    timezone: Timezone = Field(description="IANA; days begin and end in it")
    shops: Annotated[tuple[Id, ...] | None, BeforeValidator(as_list)] = Field(
        default=None, description="shops that take part; without this line, any shop does"
    )
    enrolment: Annotated[Enrolment, choice(Enrolment)] = Field(
        default="automatic", description="every customer takes part, or those who asked to"
    )
    guests: Annotated[Guests, BeforeValidator(as_mapping)] = Field(
        default=Guests(), description="purchases without a customer"
    )
    earning: Earning = Field(description="how points are earned")
    transfers: Flag = Field(
        default=False, description="whether customers may give points to one another"
    )
    grace_on_restore: MaybeSomeDays = Field(
        default=None,
        description="how long points live that are given back after they would have expired; without: not at all",
    )
    corrections: Annotated[Corrections, BeforeValidator(as_mapping)] = Field(
        default=Corrections(), description="points given or taken by hand"
    )
    tiers: Tiers | None = Field(default=None, description="levels of customers")
    rewards: Annotated[Rewards, BeforeValidator(as_mapping)] = Field(
        default=Rewards(), description="what points are exchanged for"
    )
    vouchers: Annotated[dict[Id, VoucherDefinition], BeforeValidator(as_mapping)] = Field(
        default={}, description="what vouchers are worth; each under its id"
    )

    # Later versions, and how to see that there are others (shared/program/versions.py).
    _later: Sequence[tuple[datetime, Program]] = PrivateAttr(default=())
    _stamp: object = PrivateAttr(default=None)
    _stamp_now: Callable[[], object] | None = PrivateAttr(default=None)
    _read: Callable[[], Sequence[tuple[datetime, Program]]] | None = PrivateAttr(default=None)

    def follow(
        self, stamp: Callable[[], object], read: Callable[[], Sequence[tuple[datetime, Program]]]
    ) -> None:
        """Read later versions, and again whenever ``look`` finds another stamp."""
        self._stamp, self._later = stamp(), read()
        self._stamp_now, self._read = stamp, read

    def look(self) -> None:
        """See whether versions have come; what cannot be read leaves those that are known in force."""
        if self._stamp_now is None or self._read is None:
            return
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._later = self._read()
        except (TreueError, OSError):
            log.exception("the versions of the program cannot be read, the former stay in force")

    @property
    def later(self) -> Sequence[tuple[datetime, Program]]:
        """The versions that follow this one, by the instant each is valid from."""
        # Past pydantic's own way to a private attribute: that takes microseconds, and every purchase asks.
        private = self.__pydantic_private__
        return private["_later"] if private else ()

    def at(self, instant: datetime) -> Program:
        """The rules in force at an instant: those of its version."""
        for valid_from, version in reversed(self.later):
            if valid_from <= instant:
                return version
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        """The program's time zone."""
        return ZoneInfo(self.timezone)

    @cached_property
    def version(self) -> str:
        """Name these very rules: equal content, however it is written, has the equal version."""
        text = json.dumps(_canonical(self), sort_keys=True, ensure_ascii=False)
        return sha256(text.encode()).hexdigest()[:VERSION_CHARS]


def _canonical(value: Any) -> Any:
    """Reduce to what decides: defaults left out, so that writing one down changes no version."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        written = {name: getattr(value, name) for name in fields}
        return {
            fields[name].alias or name: _canonical(item)
            for name, item in written.items()
            if item != fields[name].default
        }
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, frozenset | tuple):
        items = sorted(value) if isinstance(value, frozenset) else value
        return [_canonical(item) for item in items]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, date | Fraction | Period):
        return str(value)
    return value
