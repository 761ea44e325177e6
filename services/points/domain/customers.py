"""Whose a purchase is: its customer's, its card's owner's, or who claims it; and whether they take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from services.points.domain.wording import Sentence
from shared import clock
from shared.contracts.purchases import PurchaseCompleted
from shared.program import Program

# Why a purchase earns nothing.
GUEST = "guest"
TEST = "test"
NOT_ENROLLED = "not_enrolled"
CARD_UNKNOWN = "card_unknown"
CARD_NOT_YET = "card_not_yet"
CARD_BLOCKED = "card_blocked"

SAID: Mapping[str, Sentence] = {
    GUEST: Sentence(
        "Ohne Kundennummer oder Karte gibt es keine Punkte.",
        "Without a customer or a card there are no points.",
    ),
    TEST: Sentence("Eine Testbestellung gibt keine Punkte.", "A test order earns no points."),
    NOT_ENROLLED: Sentence(
        "Punkte gibt es ab der Anmeldung zum Programm.",
        "There are points from the enrolment in the program on.",
    ),
    CARD_UNKNOWN: Sentence("Diese Karte gehört niemandem.", "This card is nobody's."),
    CARD_NOT_YET: Sentence("Diese Karte gilt noch nicht.", "This card does not count yet."),
    CARD_BLOCKED: Sentence(
        "Diese Karte ist gesperrt oder ersetzt.", "This card is blocked or replaced."
    ),
}


class Card(NamedTuple):
    """A card counts for its customer from ``issued_at`` to before ``ended_at`` (blocked or replaced)."""

    number: str
    customer_id: str
    issued_at: datetime | None
    ended_at: datetime | None


class Claim(NamedTuple):
    """A customer called a purchase theirs when signing up at that instant."""

    customer_id: str
    at: datetime


class About(NamedTuple):
    """What is known of one purchase beside itself; claims oldest first."""

    card: Card | None
    claims: Sequence[Claim]


def is_open(purchase: PurchaseCompleted, program: Program) -> bool:
    """Whether more than the purchase itself decides whose it is."""
    if purchase.is_test:
        return False
    if program.enrolment == "opt_in":
        return True
    if purchase.customer_id is not None:
        return False
    return purchase.card_number is not None or program.guests.claim_within is not None


def holder(purchase: PurchaseCompleted, card: Card | None) -> tuple[str | None, str]:
    """Name the customer a purchase comes from, or why nobody is known."""
    if purchase.customer_id is not None:
        return purchase.customer_id, ""
    if purchase.card_number is None:
        return None, GUEST
    if card is None:
        return None, CARD_UNKNOWN
    if card.ended_at is not None and card.ended_at <= purchase.occurred_at:
        return None, CARD_BLOCKED
    if card.issued_at is None or purchase.occurred_at < card.issued_at:
        return None, CARD_NOT_YET
    return card.customer_id, ""


def claimant(purchase: PurchaseCompleted, claims: Sequence[Claim], program: Program) -> str | None:
    """Name the first customer who called the purchase theirs in time."""
    within = program.guests.claim_within
    if within is None or not claims:
        return None
    until = clock.end_of_day(purchase.occurred_at, within, program.zone)
    # Nobody claims what another customer is named for.
    named = purchase.customer_id
    mine = (claim for claim in claims if named in (None, claim.customer_id) and claim.at < until)
    return next((claim.customer_id for claim in mine), None)


def beneficiary(
    purchase: PurchaseCompleted,
    about: About,
    enrolled: Mapping[str, datetime],
    program: Program,
) -> tuple[str | None, str]:
    """Name whom a purchase is credited to, or why it is nobody; ``enrolled`` says since when customers take part.

    Where the program asks for enrolment, it must have come before the purchase; a claim makes up for that too.
    """
    found, why = holder(purchase, about.card)
    if found is not None and program.enrolment == "opt_in":
        since = enrolled.get(found)
        if since is None or since > purchase.occurred_at:
            found, why = None, NOT_ENROLLED
    if found is None:
        found = claimant(purchase, about.claims, program)
    return (found, "") if found is not None else (None, why)
