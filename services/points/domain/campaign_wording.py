"""The words about campaigns: what one gave, what a cap cut, and which condition the others failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

from services.points.domain import campaigns, deciding, wording
from services.points.domain.packed_campaigns import PackedGrant
from services.points.domain.wording import Sentence

_WEEKDAYS = {
    "mon": ("Montag", "Monday"),
    "tue": ("Dienstag", "Tuesday"),
    "wed": ("Mittwoch", "Wednesday"),
    "thu": ("Donnerstag", "Thursday"),
    "fri": ("Freitag", "Friday"),
    "sat": ("Samstag", "Saturday"),
    "sun": ("Sonntag", "Sunday"),
}
# The units of a period, and their names.
_UNITS = (
    ("D", ("Tag", "Tage", "day", "days")),
    ("H", ("Stunde", "Stunden", "hour", "hours")),
    ("M", ("Minute", "Minuten", "minute", "minutes")),
)
_BOUNDS = {
    deciding.PER_PURCHASE: ("je Einkauf", "a purchase"),
    deciding.PER_CUSTOMER: ("je Kunde", "a customer"),
    deciding.TOTAL: ("insgesamt", "in all"),
}


def title(campaign: str, name: str) -> Sentence:
    """Call a campaign by its name, or by its id where it has none."""
    shown = name or campaign
    return Sentence(f"Aktion {shown}", f"campaign {shown}")


def added(grant: PackedGrant) -> Sentence:
    """Say what a campaign adds to the exact value, before any tier."""
    called, exact = title(grant.id, grant.name), wording.number(Fraction(grant.exact))
    return Sentence(f"{called.de} (+ {exact.de})", f"{called.en} (+ {exact.en})")


def cut(grant: PackedGrant) -> Sentence:
    """Say what a cap cut: ``Aktion Advent bringt höchstens 20 Punkte je Einkauf: 20 statt 50``."""
    called = title(grant.id, grant.name)
    most, (german, english) = wording.points(grant.bound), _BOUNDS[grant.capped]
    kept, asked = wording.number(grant.points), wording.number(grant.asked)
    return Sentence(
        f"{called.de} bringt höchstens {most.de} {german}: {kept.de} statt {asked.de}",
        f"{called.en} gives at most {most.en} {english}: {kept.en} instead of {asked.en}",
    )


def missed(rule: Sequence[str], names: Mapping[str, str], currency: str) -> Sentence:
    """Say why a campaign gave nothing, and by how much it was missed."""
    campaign, name, condition, needed, found, by = rule
    called = title(campaign, name)
    told = _TOLD[condition](needed, found, by, Words(names, currency))
    return Sentence(f"{called.de} {told.de}", f"{called.en} {told.en}")


class Words:
    """What ids mean here: tiers by their names, amounts in the program's currency."""

    def __init__(self, names: Mapping[str, str], currency: str) -> None:
        self.names, self.currency = names, currency

    def tiers(self, ids: str) -> str:
        """Call tiers by their names."""
        return ", ".join(self.names.get(one, one) for one in ids.split(", "))

    def money(self, amount: str) -> Sentence:
        """Write an amount."""
        return wording.money(Decimal(amount), self.currency)


def _begins(needed: str, found: str, by: str, words: Words) -> Sentence:
    del found, words
    day, gap = _day(needed), _gap(by)
    return Sentence(
        f"beginnt am {day.de}, der Einkauf war {gap.de} davor",
        f"begins on {day.en}, the purchase was {gap.en} before",
    )


def _ends(needed: str, found: str, by: str, words: Words) -> Sentence:
    del found, words
    day, gap = _day(needed), _gap(by)
    return Sentence(
        f"endete am {day.de}, der Einkauf war {gap.de} nach ihrem Ende",
        f"ended on {day.en}, the purchase was {gap.en} after its end",
    )


def _shops(needed: str, found: str, by: str, words: Words) -> Sentence:
    del by, words
    return Sentence(f"gilt nur in {needed}, nicht in {found}", f"is for {needed}, not for {found}")


def _channels(needed: str, found: str, by: str, words: Words) -> Sentence:
    del by, words
    german = f"nicht über {found}" if found else "der Einkauf nennt keinen Weg"
    english = f"not through {found}" if found else "the purchase names no channel"
    return Sentence(f"gilt nur über {needed}, {german}", f"is for {needed}, {english}")


def _weekdays(needed: str, found: str, by: str, words: Words) -> Sentence:
    del by, words
    german = ", ".join(_WEEKDAYS[day][0] for day in needed.split(", "))
    english = ", ".join(_WEEKDAYS[day][1] for day in needed.split(", "))
    day = _WEEKDAYS[found]
    return Sentence(
        f"gilt nur am {german}, der Einkauf war am {day[0]}",
        f"is for {english}, the purchase was on {day[1]}",
    )


def _hours(needed: str, found: str, by: str, words: Words) -> Sentence:
    del words
    gap = _gap(by)
    return Sentence(
        f"gilt nur von {needed} Uhr, der Einkauf um {found} Uhr war {gap.de} daneben",
        f"is for {needed}, the purchase at {found} was {gap.en} off",
    )


def _lines(needed: str, found: str, by: str, words: Words) -> Sentence:
    del found, by, words
    return Sentence(
        f"gilt nur für {needed}, keine anrechenbare Position gehört dazu",
        f"is for {needed}, none of the eligible lines is of it",
    )


def _eligible(needed: str, found: str, by: str, words: Words) -> Sentence:
    del needed, found, by, words
    return Sentence("braucht eine anrechenbare Position", "needs an eligible line")


def _minimum(needed: str, found: str, by: str, words: Words) -> Sentence:
    least, has, lacks = words.money(needed), words.money(found), words.money(by)
    return Sentence(
        f"gilt ab {least.de}: bei {has.de} fehlten {lacks.de}",
        f"begins at {least.en}: {has.en} missed it by {lacks.en}",
    )


def _tiers(needed: str, found: str, by: str, words: Words) -> Sentence:
    del by
    wanted, has = words.tiers(needed), words.tiers(found)
    return Sentence(
        f"gilt nur für Stufe {wanted}, vor dem Einkauf galt {f'Stufe {has}' if has else 'keine'}",
        f"is for tier {wanted}, before the purchase it was {f'tier {has}' if has else 'none'}",
    )


def _first(needed: str, found: str, by: str, words: Words) -> Sentence:
    del needed, found, by, words
    return Sentence("gilt nur für den ersten Einkauf", "is for the first purchase only")


def _exclusive(needed: str, found: str, by: str, words: Words) -> Sentence:
    del found, words
    more = wording.points(int(by))
    return Sentence(
        f"zählt nicht neben Aktion {needed}, die {more.de} mehr bringt"
        if int(by)
        else f"zählt nicht neben Aktion {needed}, die ebenso viel bringt",
        f"does not count beside campaign {needed}, which gives {more.en} more"
        if int(by)
        else f"does not count beside campaign {needed}, which gives as much",
    )


def _used_up(bound: str) -> Callable[[str, str, str, Words], Sentence]:
    def told(needed: str, found: str, by: str, words: Words) -> Sentence:
        del found, words
        most, lost, (german, english) = (
            wording.points(int(needed)),
            wording.points(int(by)),
            _BOUNDS[bound],
        )
        return Sentence(
            f"bringt höchstens {most.de} {german}: ausgeschöpft, {lost.de} mehr wären es gewesen",
            f"gives at most {most.en} {english}: used up, it would have been {lost.en} more",
        )

    return told


def _day(moment: str) -> Sentence:
    """Write a day, or a moment on the program's clock, as people do."""
    if " " in moment:
        at = datetime.strptime(moment, "%Y-%m-%d %H:%M")  # noqa: DTZ007 - a wall clock's time
        return Sentence(f"{at:%d.%m.%Y, %H:%M} Uhr", f"{at.day} {at:%B %Y, %H:%M}")
    day = date.fromisoformat(moment)
    return Sentence(f"{day:%d.%m.%Y}", f"{day.day} {day:%B %Y}")


def _gap(period: str) -> Sentence:
    """Write the period between two moments: whole days, or hours and minutes."""
    parts = [
        (int(found[1]), words)
        for unit, words in _UNITS
        if (found := re.search(rf"(\d+){unit}", period))
    ]
    german = [f"{count} {words[0] if count == 1 else words[1]}" for count, words in parts]
    english = [f"{count} {words[2] if count == 1 else words[3]}" for count, words in parts]
    return Sentence(" ".join(german), " ".join(english))


_TOLD: dict[str, Callable[[str, str, str, Words], Sentence]] = {
    campaigns.FROM: _begins,
    campaigns.UNTIL: _ends,
    campaigns.SHOPS: _shops,
    campaigns.CHANNELS: _channels,
    campaigns.WEEKDAYS: _weekdays,
    campaigns.HOURS: _hours,
    campaigns.LINES: _lines,
    campaigns.ELIGIBLE: _eligible,
    campaigns.MINIMUM: _minimum,
    deciding.TIERS: _tiers,
    deciding.FIRST: _first,
    deciding.EXCLUSIVE: _exclusive,
    **{bound: _used_up(bound) for bound in _BOUNDS},
}
