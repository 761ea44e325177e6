"""Vouchers: which ones a timeline calls for, their dates and worth, and how they follow a moved cause."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from services.rewards.domain import announcements, timelines
from services.rewards.domain.terms import (
    decimal_text,
    expires_at,
    terms_from_json,
    terms_of,
    terms_to_json,
)
from services.rewards.domain.vouchers import (
    State,
    Step,
    Voucher,
    decide,
    reconcile,
    voucher_id,
    wanted,
)
from shared.contracts import rewards
from shared.contracts.rewards import Cause
from shared.contracts.tiers import TierChanged, TierMove
from shared.errors import Poison
from tests.unit.rewards.given import at, changed, move, program

PROGRAM = program()
SILVER = move("silver", "2026-03-01T10:00:00")
GOLD = move("gold", "2026-06-01T12:00:00")


def first(*timeline: TierMove) -> list[Voucher]:
    """The vouchers of a customer whose first news this timeline is."""
    grants = decide(timeline, (), PROGRAM)
    return [change.after for change in reconcile("c", (), wanted(timeline, grants))]


@pytest.mark.parametrize(
    ("timezone", "valid_for", "since", "expected"),
    [
        # Winter into summer: the last midnight is an hour earlier in UTC.
        ("Europe/London", "P90D", "2026-01-15T10:00:00", "2026-04-15T23:00:00"),
        ("Europe/London", "P90D", "2026-09-01T10:00:00", "2026-12-01T00:00:00"),
        # Half past eleven in UTC is the next day in London's summer.
        ("Europe/London", "P1D", "2026-06-30T23:30:00", "2026-07-02T23:00:00"),
        # The day of 25 hours, and the one of 23.
        ("Europe/London", "P1D", "2026-10-24T12:00:00", "2026-10-26T00:00:00"),
        ("Europe/Berlin", "P1D", "2026-03-28T12:00:00", "2026-03-29T22:00:00"),
        # SEMANTICS.md, month end.
        ("Europe/Berlin", "P1M", "2027-01-31T12:00:00", "2027-02-28T23:00:00"),
        ("Europe/London", "P1Y", "2028-02-29T12:00:00", "2029-03-01T00:00:00"),
        ("Asia/Kathmandu", "P1W", "2026-05-01T18:14:59", "2026-05-08T18:15:00"),
        ("Asia/Kathmandu", "P1W", "2026-05-01T18:15:00", "2026-05-09T18:15:00"),
    ],
)
def test_expires_after_the_last_local_day(
    timezone: str, valid_for: str, since: str, expected: str
) -> None:
    terms = terms_of("ten", program(timezone=timezone, valid_for=valid_for))
    assert expires_at(at(since), terms) == at(expected)


def test_without_valid_for_it_never_expires() -> None:
    assert expires_at(at("2026-01-01"), terms_of("cash", PROGRAM)) is None


@pytest.mark.parametrize(
    ("definition", "currency", "value", "money", "max_discount", "min_order"),
    [
        ("ten", "GBP", "10", "GBP", "30.00", None),
        ("cash", "GBP", "25.00", "GBP", None, "50.00"),
        ("cash", "KWD", "25.000", "KWD", None, "50.000"),
        ("ship", "GBP", None, None, None, None),
    ],
)
def test_terms(
    definition: str,
    currency: str,
    value: str | None,
    money: str | None,
    max_discount: str | None,
    min_order: str | None,
) -> None:
    terms = terms_of(definition, program(currency=currency))
    assert decimal_text(terms.value) == value
    assert terms.currency == money
    assert decimal_text(terms.max_discount) == max_discount
    assert decimal_text(terms.min_order) == min_order
    assert terms_from_json(terms_to_json(terms)) == terms


def test_large_percentages_and_amounts_have_no_exponent() -> None:
    assert decimal_text(Decimal("1E+2")) == "100"


def test_one_voucher_per_upgrade_and_definition() -> None:
    again = move("gold", "2027-06-01", 2)
    kept = move("gold", "2027-01-01", 0, "retained")
    fell = move("bronze", "2027-03-01", 0, "downgraded")
    vouchers = first(SILVER, GOLD, kept, fell, again)
    assert [(v.cause.id, v.definition) for v in vouchers] == [
        ("silver#1", "ten"),
        ("gold#1", "cash"),
        ("gold#1", "ship"),
        ("gold#2", "cash"),
        ("gold#2", "ship"),
    ]
    assert {v.cause.type for v in vouchers} == {"promotion"}
    assert [v.issued_at for v in vouchers] == [m.since for m in (SILVER, GOLD, GOLD, again, again)]
    assert len({v.id for v in vouchers}) == 5


def test_several_levels_at_once_give_the_vouchers_of_each() -> None:
    silver, gold = replace_since(SILVER, "2026-06-01"), replace_since(GOLD, "2026-06-01")
    assert [v.definition for v in first(silver, gold)] == ["ten", "cash", "ship"]


def test_ids_are_a_function_of_customer_cause_and_definition() -> None:
    cause = Cause("promotion", "gold#1")
    ids = {
        voucher_id("c", cause, "cash"),
        voucher_id("d", cause, "cash"),
        voucher_id("c", Cause("promotion", "gold#2"), "cash"),
        voucher_id("c", Cause("birthday", "gold#1"), "cash"),
        voucher_id("c", cause, "ship"),
    }
    assert len(ids) == 5
    assert str(voucher_id("c", cause, "cash")) == "3cc962e8-d8ee-59d1-b4dd-cc9ada72cbca"


def test_a_known_cause_keeps_what_it_gave_under_an_older_program() -> None:
    before = decide([SILVER], (), PROGRAM)
    after = decide([SILVER, GOLD], before, program(silver="ship", gold="ten"))
    assert [cause.id for cause in after] == ["gold#1"]
    assert list(after[Cause("promotion", "gold#1")]) == ["ten"]


def test_a_cause_that_gives_nothing_is_decided_too() -> None:
    grants = decide([move("bronze", "2026-01-01")], (), PROGRAM)
    assert grants == {Cause("promotion", "bronze#1"): {}}


def test_a_level_that_the_program_lacks_stays_undecided() -> None:
    assert decide([move("platinum", "2026-01-01")], (), PROGRAM) == {}


def replace_since(old: TierMove, since: str) -> TierMove:
    return move(old.tier, since, old.reach, old.kind)


def test_nothing_changes_when_nothing_moved() -> None:
    timeline = (SILVER, GOLD)
    vouchers = first(*timeline)
    assert reconcile("c", vouchers, wanted(timeline, decide(timeline, (), PROGRAM))) == ()


def follow(voucher: Voucher, *timeline: TierMove) -> Step | None:
    """What becomes of the one voucher of SILVER when the timeline is this."""
    changes = reconcile("c", [voucher], wanted(timeline, {voucher.cause: {"ten": voucher.terms}}))
    assert len(changes) <= 1
    if not changes:
        return None
    (change,) = changes
    assert change.before == voucher
    assert change.after.id == voucher.id
    if timeline:
        assert change.after.issued_at == timeline[0].since
        assert change.after.expires_at == expires_at(timeline[0].since, voucher.terms)
    assert change.after.state == (State.ISSUED if timeline else State.REVOKED)
    return change.step


MOVED = replace_since(SILVER, "2026-02-01T10:00:00")


@pytest.mark.parametrize(
    ("state", "timeline", "step"),
    [
        (State.ISSUED, (SILVER,), None),
        (State.ISSUED, (MOVED,), Step.REDATED),
        (State.ISSUED, (), Step.REVOKED),
        (State.REVOKED, (), None),
        (State.REVOKED, (SILVER,), Step.REINSTATED),
        (State.REVOKED, (MOVED,), Step.REINSTATED),
        *((used, timeline, None)
          for used in (State.HELD, State.REDEEMED, State.PARTIALLY_REDEEMED)
          for timeline in ((SILVER,), (MOVED,), ())),
    ],
)  # fmt: skip
def test_a_voucher_follows_its_cause_until_it_is_used(
    state: State, timeline: tuple[TierMove, ...], step: Step | None
) -> None:
    (voucher,) = first(SILVER)
    assert follow(replace(voucher, state=state), *timeline) == step


def test_a_redated_voucher_keeps_its_terms_under_a_new_program() -> None:
    (voucher,) = first(SILVER)
    newer = program(silver="ten", valid_for="P1D")
    grants = {voucher.cause: {"ten": voucher.terms}}
    decided = decide([MOVED], grants, newer)
    (change,) = reconcile("c", [voucher], wanted([MOVED], {**grants, **decided}))
    assert change.after.expires_at == at("2026-05-02T23:00:00")


def test_a_voucher_beyond_the_calendar_is_poison() -> None:
    timeline = [move("silver", "9999-12-01")]
    with pytest.raises(Poison, match="upgrade 1"):
        wanted(timeline, decide(timeline, (), PROGRAM))


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (changed("", 1, SILVER), "data.customer_id"),
        (changed("c" * 10_000, 1, SILVER), "data.customer_id"),
        (changed("c\x00", 1, SILVER), "data.customer_id"),
        (changed("c", 0, SILVER), "data.revision"),
        (changed("c", 2**63, SILVER), "data.revision"),
        (changed("c", 1, SILVER, SILVER), "data.timeline[1].reach"),
        (changed("c", 1, move("silver", "2026-01-01", 0)), "data.timeline[0].reach"),
        (changed("c", 1, move("", "2026-01-01")), "data.timeline[0].tier"),
        (changed("c", 1, move("\x00", "2026-01-01")), "data.timeline[0].tier"),
    ],
)
def test_impossible_news_name_the_field(data: TierChanged, field: str) -> None:
    with pytest.raises(Poison) as caught:
        timelines.check(data)
    assert caught.value.field == field


def test_instants_need_a_zone() -> None:
    naive = move("silver", "2026-01-01")
    naive = TierMove(
        naive.kind, naive.tier, None, "1", naive.since.replace(tzinfo=None), None, 1, None
    )
    with pytest.raises(Poison, match=r"data\.timeline\[0\]\.since: has no time zone"):
        timelines.check(changed("c", 1, naive))


def test_announcements_repeat_with_the_same_id() -> None:
    (voucher,) = first(SILVER)
    now, later = at("2026-11-22"), at("2026-11-23")
    one = announcements.announce("c", 7, Step.ISSUED, voucher, now)
    assert one.id == announcements.announce("c", 7, Step.ISSUED, voucher, later).id
    others = [
        announcements.announce("c", 8, Step.ISSUED, voucher, now),
        announcements.announce("c", 7, Step.REVOKED, voucher, now),
        announcements.announce("c", 7, Step.REDATED, replace(voucher, issued_at=later), now),
        announcements.announce("c", 7, Step.EXPIRED, voucher, now),
    ]
    assert len({one.id, *(other.id for other in others)}) == 5
    # An expiry is the same, whatever tiers told meanwhile without moving it.
    assert others[-1].id == announcements.announce("c", 9, Step.EXPIRED, voucher, now).id
    assert [told.type for told in (one, *others)] == [
        rewards.VOUCHER_ISSUED,
        rewards.VOUCHER_ISSUED,
        rewards.VOUCHER_REVOKED,
        rewards.VOUCHER_ISSUED,
        rewards.VOUCHER_EXPIRED,
    ]
    assert one.data == rewards.VoucherChanged(
        customer_id="c",
        voucher_id=str(voucher.id),
        voucher="ten",
        kind="percent",
        value="10",
        currency="GBP",
        issued_at=SILVER.since,
        expires_at=at("2026-05-30T23:00:00"),
        cause=Cause("promotion", "silver#1"),
        revision=7,
    )
