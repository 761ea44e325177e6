"""Why an entry that no purchase explains came to be: a code with its particulars, told in two languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import msgspec

from services.points.domain.rules import rules_of
from services.points.domain.wording import Sentence, points
from shared.money import Rounding
from shared.program.model import Program

FACT = "fact"

ACTIVITY = "activity"
LIMITED = "activity_limit"
COUNTS_NOW = "activity_counts_now"
NO_LONGER = "activity_no_longer"
BROUGHT = "referral_friend"
BRINGS = "referral_referrer"
NOT_BROUGHT = "referral_no_longer"
CARD_BLOCKED = "card_blocked"
MERGED_OUT = "merged_out"
MERGED_IN = "merged_in"
SPENT = "spent"
GIVEN_BACK = "given_back"
GIVEN_NEW_LIFE = "given_new_life"
OWED_PAID = "owed_paid"
OWED_PAYS = "owed_pays"
OWED_WRITTEN_OFF = "owed_written_off"
GIVEN_TO = "given_to"
GIVEN_BY = "given_by"
UNLOCKED = "unlocked"
EXPIRED = "expired"
NOT_EXPIRED = "not_expired"
CORRECTED = "corrected"
UNDONE = "undone"
EXTENDED_OUT = "extended_out"
EXTENDED_IN = "extended_in"


class PackedFact(
    msgspec.Struct,
    frozen=True,
    tag_field="k",
    tag=FACT,
    rename={
        "program": "p",
        "version": "v",
        "rounding": "m",
        "code": "w",
        "points": "n",
        "total": "t",
        "said": "s",
    },
):
    """Why an entry of ``points`` was written: a code with names and ids; ``total`` of its lot after it."""

    program: str
    version: str
    rounding: Rounding
    code: str
    points: int
    total: int
    said: Sequence[str] = ()


def pack_fact(code: str, change: int, total: int, said: Sequence[str], program: Program) -> str:
    """Write down why, as JSON to be stored with the entry."""
    rules = rules_of(program)
    fact = PackedFact(rules.id, rules.version, rules.rounding, code, change, total, said)
    return msgspec.json.encode(fact).decode()


def expiry(change: int, last: date, program: Program) -> PackedFact:
    """Say that points were lost (below 0) after their last day, or not after all."""
    rules = rules_of(program)
    code = NOT_EXPIRED if change > 0 else EXPIRED
    return PackedFact(rules.id, rules.version, rules.rounding, code, change, change, both(last))


def both(day: date) -> tuple[str, str]:
    """Write a day as German and English have it."""
    return f"{day:%d.%m.%Y}", f"{day.day} {day:%B %Y}"


def sentence(fact: PackedFact) -> Sentence:
    """Tell it in one sentence."""
    change = points(fact.points, signed=True)
    said = [*fact.said, "", ""]
    told = _TOLD[fact.code](said)
    return Sentence(f"{change.de}: {told.de}.", f"{change.en}: {told.en}.")


def _limit(said: Sequence[str]) -> Sentence:
    times, per = said[1], said[2]
    german = f"mehr als {times} Mal" + (f" in {per}" if per else "")
    english = f"more than {times} times" + (f" in {per}" if per else "")
    return Sentence(
        f"{said[0]} zählt nicht, {german}", f"{said[0]} does not count, it is {english}"
    )


_TOLD: dict[str, Callable[[Sequence[str]], Sentence]] = {
    ACTIVITY: lambda said: Sentence(f"für {said[0]}", f"for {said[0]}"),
    LIMITED: _limit,
    COUNTS_NOW: lambda said: Sentence(
        f"{said[0]} zählt nun doch, nach dem, was später bekannt wurde",
        f"{said[0]} counts after all, by what became known later",
    ),
    NO_LONGER: lambda said: Sentence(
        f"{said[0]} zählt nicht mehr, ein früheres wurde später bekannt",
        f"{said[0]} no longer counts, an earlier one became known later",
    ),
    BROUGHT: lambda said: Sentence(
        f"{said[0]}: erster Einkauf nach der Empfehlung durch {said[1]}",
        f"{said[0]}: first purchase after having been brought by {said[1]}",
    ),
    BRINGS: lambda said: Sentence(
        f"{said[0]}: erster Einkauf von {said[1]}", f"{said[0]}: first purchase of {said[1]}"
    ),
    NOT_BROUGHT: lambda said: Sentence(
        f"{said[0]} zählt so nicht, nach dem, was später bekannt wurde",
        f"{said[0]} does not count like this, by what became known later",
    ),
    CARD_BLOCKED: lambda said: Sentence(
        f"die Karte {said[0]} war vor dem Einkauf gesperrt",
        f"card {said[0]} was blocked before the purchase",
    ),
    MERGED_OUT: lambda said: Sentence(
        f"übertragen: dieses Konto wird als {said[0]} weitergeführt",
        f"moved: this account lives on as {said[0]}",
    ),
    MERGED_IN: lambda said: Sentence(
        f"übernommen vom Konto {said[0]}", f"taken over from account {said[0]}"
    ),
    SPENT: lambda said: Sentence(
        f"eingelöst für {said[0]}" if said[0] else "eingelöst",
        f"spent on {said[0]}" if said[0] else "spent",
    ),
    GIVEN_BACK: lambda said: Sentence(
        f"zurückgegeben aus der Einlösung für {said[0]}" if said[0] else "zurückgegeben",
        f"given back of what was spent on {said[0]}" if said[0] else "given back",
    ),
    GIVEN_NEW_LIFE: lambda _: Sentence(
        "zurückgegeben mit neuer Frist, die ursprüngliche war abgelaufen",
        "given back with a new end, for the former one had passed",
    ),
    OWED_PAID: lambda _: Sentence(
        "ausgeglichen mit anderen Punkten: mehr war eingelöst, als blieb",
        "paid with other points: more had been spent than was left",
    ),
    OWED_PAYS: lambda _: Sentence("gleicht einen Fehlbetrag aus", "pays for a deficit"),
    OWED_WRITTEN_OFF: lambda _: Sentence(
        "Fehlbetrag erlassen: nichts war da, um ihn auszugleichen",
        "deficit written off: nothing was there to pay for it",
    ),
    GIVEN_TO: lambda said: Sentence(f"übertragen an {said[0]}", f"given to {said[0]}"),
    GIVEN_BY: lambda said: Sentence(f"erhalten von {said[0]}", f"given by {said[0]}"),
    UNLOCKED: lambda said: Sentence(f"einlösbar seit {said[0]}", f"available since {said[1]}"),
    EXPIRED: lambda said: Sentence(
        f"verfallen, der letzte gültige Tag war der {said[0]}",
        f"expired, the last valid day was {said[1]}",
    ),
    NOT_EXPIRED: lambda said: Sentence(
        f"nicht verfallen, anders als zunächst gebucht (letzter gültiger Tag: {said[0]})",
        f"not expired after all (last valid day: {said[1]})",
    ),
    CORRECTED: lambda said: Sentence(
        f"{said[0]} (Korrektur durch {said[1]}{said[2] and f', freigegeben von {said[2]}'})",
        f"{said[0]} (corrected by {said[1]}{said[2] and f', approved by {said[2]}'})",
    ),
    UNDONE: lambda said: Sentence(
        f"{said[0]} (Eintrag zurückgenommen durch {said[1]})",
        f"{said[0]} (entry reversed by {said[1]})",
    ),
    EXTENDED_OUT: lambda said: Sentence(
        f"{said[0]} (gilt länger, in einem neuen Posten; durch {said[1]})",
        f"{said[0]} (counts longer, in a new lot; by {said[1]})",
    ),
    EXTENDED_IN: lambda said: Sentence(
        f"{said[0]} (gilt länger; durch {said[1]})",
        f"{said[0]} (counts longer; by {said[1]})",
    ),
}
