"""Which vouchers a customer's way through the levels calls for, and what must change to get there.

One voucher per cause (a level, reached for the n-th time) and definition. Identity and dates come
from the cause and the terms alone: the order in which timelines arrive does not show in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from services.rewards.domain.terms import Terms, expires_at, terms_of
from shared.contracts.rewards import Cause
from shared.contracts.tiers import TierMove
from shared.errors import Poison
from shared.ids import derive
from shared.program.model import Program

PROMOTION = "promotion"

# What a cause gives: definition → terms. Decided when we first hear of the cause and kept from then
# on, so that a new program changes what comes after it and nothing that was granted before. Only a
# cause that turns out to lie in the time of another version is decided anew, by that one.
Grants = Mapping[Cause, Mapping[str, Terms]]


class Claimed(NamedTuple):
    """How a cause was decided: the number of its newest claim, and the version of the rules."""

    number: int
    version: str


class State(StrEnum):
    """What is stored. That a voucher has expired is a function of time and never stored."""

    ISSUED = "issued"
    REVOKED = "revoked"
    HELD = "held"
    REDEEMED = "redeemed"
    PARTIALLY_REDEEMED = "partially_redeemed"


UNUSED = frozenset({State.ISSUED, State.REVOKED})


class Step(StrEnum):
    """What can happen to a voucher: on account of its cause, or, to expire, of time."""

    ISSUED = "issued"
    REDATED = "redated"
    REVOKED = "revoked"
    REINSTATED = "reinstated"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A voucher that the timeline calls for; ``claim`` is the number of the claim that it has its terms by."""

    cause: Cause
    definition: str
    terms: Terms
    issued_at: datetime
    expires_at: datetime | None
    claim: int = 1


@dataclass(frozen=True, slots=True)
class Voucher:
    """A voucher that there is."""

    id: UUID
    cause: Cause
    definition: str
    terms: Terms
    state: State
    issued_at: datetime
    expires_at: datetime | None
    claim: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one voucher; ``before`` is missing for a new one."""

    step: Step
    before: Voucher | None
    after: Voucher


def voucher_id(customer_id: str, cause: Cause, definition: str) -> UUID:
    """The identity of a voucher: a function of what it was given for."""
    return derive("voucher", customer_id, cause.type, cause.id, definition)


def promotions(timeline: Sequence[TierMove]) -> Iterator[tuple[TierMove, Cause]]:
    """The upgrades in a timeline and the cause that each of them is."""
    for move in timeline:
        if move.kind == "upgraded":
            yield move, Cause(PROMOTION, f"{move.tier}#{move.reach}")


def decide(timeline: Sequence[TierMove], known: Iterable[Cause], program: Program) -> Grants:
    """What the causes that are not known yet give under the version of the program in force at each of them.

    A level that this program does not have is left undecided until a program with it is in force.
    """
    done = set(known)
    return {
        cause: given
        for move, cause in promotions(timeline)
        if cause not in done and (given := _given(move, program.at(move.since))) is not None
    }


def decide_anew(
    timeline: Sequence[TierMove],
    claimed: Mapping[Cause, Claimed],
    grants: Grants,
    vouchers: Iterable[Voucher],
    program: Program,
) -> Grants:
    """What known causes give now that they lie in the time of another version than the one that decided them.

    A cause of which a voucher was used, or is being used, stays as it was decided. So does one that was decided by
    rules that are no more: a program file was put in the place of another.
    """
    if not program.later:
        return {}
    versions = {program.version, *(version.version for _, version in program.later)}
    used = {voucher.cause for voucher in vouchers if voucher.state not in UNUSED}
    found: dict[Cause, Mapping[str, Terms]] = {}
    for move, cause in promotions(timeline):
        rules = program.at(move.since)
        by = claimed[cause].version if cause in claimed else rules.version
        if by == rules.version or by not in versions or cause in used:
            continue
        given = _given(move, rules)
        if given is not None and given != grants.get(cause, {}):
            found[cause] = given
    return found


def _given(move: TierMove, rules: Program) -> Mapping[str, Terms] | None:
    """What reaching a level gives; None if these rules do not have it."""
    levels = rules.tiers.levels if rules.tiers else ()
    for level in levels:
        if level.id == move.tier:
            return {definition: terms_of(definition, rules) for definition in level.on_reach}
    return None


def wanted(
    timeline: Sequence[TierMove], grants: Grants, claimed: Mapping[Cause, Claimed] | None = None
) -> tuple[Wanted, ...]:
    """The vouchers that the timeline calls for, dated by their causes. Raises Poison beyond the year 9999."""
    found: list[Wanted] = []
    numbers = claimed or {}
    for place, (move, cause) in enumerate(promotions(timeline)):
        number = numbers[cause].number if cause in numbers else 1
        for definition, terms in grants.get(cause, {}).items():
            try:
                end = expires_at(move.since, terms)
            except ValueError as error:
                raise Poison(f"data.timeline: upgrade {place + 1}", str(error)) from None
            found.append(Wanted(cause, definition, terms, move.since, end, number))
    return tuple(found)


def reconcile(
    customer_id: str, existing: Iterable[Voucher], calls: Sequence[Wanted]
) -> tuple[Change, ...]:
    """The steps from the vouchers that exist to those that the timeline calls for.

    What was used, or is being used, is a fact: it stays as it is, whatever becomes of its cause.
    """
    have = {(voucher.cause, voucher.definition): voucher for voucher in existing}
    called = {(call.cause, call.definition) for call in calls}
    changes = [
        _follow(customer_id, have.get((call.cause, call.definition)), call) for call in calls
    ]
    gone = [
        Change(Step.REVOKED, voucher, replace(voucher, state=State.REVOKED))
        for key, voucher in have.items()
        if key not in called and voucher.state is State.ISSUED
    ]
    return tuple(change for change in changes if change is not None) + tuple(gone)


def _follow(customer_id: str, voucher: Voucher | None, call: Wanted) -> Change | None:
    if voucher is None:
        new = Voucher(
            id=voucher_id(customer_id, call.cause, call.definition),
            cause=call.cause,
            definition=call.definition,
            terms=call.terms,
            state=State.ISSUED,
            issued_at=call.issued_at,
            expires_at=call.expires_at,
            claim=call.claim,
        )
        return Change(Step.ISSUED, None, new)
    if voucher.state not in UNUSED:
        return None
    after = replace(
        voucher,
        terms=call.terms,
        state=State.ISSUED,
        issued_at=call.issued_at,
        expires_at=call.expires_at,
        claim=call.claim,
    )
    if after == voucher:
        return None
    step = Step.REINSTATED if voucher.state is State.REVOKED else Step.REDATED
    return Change(step, voucher, after)
