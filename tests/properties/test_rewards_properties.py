"""Rewards: neither order nor repetition of what tiers tells shows in the vouchers; codes round-trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rewards.domain.codes import ALPHABET, InvalidCodeError, encode, normalise
from services.rewards.domain.terms import Terms, terms_of
from services.rewards.domain.vouchers import (
    Claimed,
    State,
    Voucher,
    decide,
    decide_anew,
    promotions,
    reconcile,
    wanted,
)
from shared.contracts.rewards import Cause
from shared.contracts.tiers import TierMove
from shared.program import Program
from tests.unit.rewards.given import KEYRING, at, program

PROGRAM = program()
START = at("2026-01-01")


@dataclass
class Account:
    """The service's memory of one customer, without a database."""

    revision: int = 0
    grants: dict[Cause, dict[str, Terms]] = field(default_factory=dict)
    vouchers: dict[Any, Voucher] = field(default_factory=dict)
    claimed: dict[Cause, Claimed] = field(default_factory=dict)
    rules: Program = PROGRAM

    def hear(self, revision: int, timeline: Sequence[TierMove]) -> None:
        """As handlers.told does."""
        if revision <= self.revision:
            return
        self.revision = revision
        decided = {
            **decide(timeline, self.grants, self.rules),
            **decide_anew(timeline, self.claimed, self.grants, self.vouchers.values(), self.rules),
        }
        since = {cause: move.since for move, cause in promotions(timeline)}
        for cause, given_by_cause in decided.items():
            self.grants[cause] = dict(given_by_cause)
            number = self.claimed[cause].number + 1 if cause in self.claimed else 1
            self.claimed[cause] = Claimed(number, self.rules.at(since[cause]).version)
        calls = wanted(timeline, self.grants, self.claimed)
        for change in reconcile("c", self.vouchers.values(), calls):
            self.vouchers[change.after.id] = change.after

    def shown(self) -> set[tuple[Any, ...]]:
        """What the customer sees, codes included."""
        return {
            (v.id, KEYRING.code(v.id, 1), v.issued_at, v.expires_at, v.terms)
            for v in self.vouchers.values()
            if v.state is not State.REVOKED
        }


causes = st.tuples(st.sampled_from(["bronze", "silver", "gold"]), st.integers(1, 3))
timelines = st.dictionaries(causes, st.integers(0, 400 * 24 * 60), max_size=6).map(
    lambda found: [
        TierMove(
            kind="upgraded",
            tier=tier,
            previous=None,
            multiplier="1",
            since=START + timedelta(minutes=minutes),
            valid_until=None,
            reach=reach,
            cause=None,
        )
        for (tier, reach), minutes in sorted(found.items(), key=lambda item: item[1])
    ]
)


@given(st.lists(timelines, min_size=1, max_size=6), st.data())
def test_order_and_repetition_do_not_show(told: list[list[TierMove]], data: st.DataObject) -> None:
    revisions = list(enumerate(told, start=1))
    in_order, shuffled = Account(), Account()
    for revision, timeline in revisions:
        in_order.hear(revision, timeline)
    twice = data.draw(st.permutations(revisions + revisions))
    for revision, timeline in twice:
        shuffled.hear(revision, timeline)
    alone = Account()
    alone.hear(*revisions[-1])
    assert shuffled.shown() == in_order.shown() == alone.shown()


RULES = [
    program(silver="ship", valid_for="P30D"),
    program(silver="ten, cash", gold="cash"),
    PROGRAM,
]
versions = st.lists(st.integers(0, 400), min_size=1, max_size=3, unique=True).map(
    lambda days: [(START + timedelta(days=day), RULES[n]) for n, day in enumerate(sorted(days))]
)


@given(st.lists(timelines, min_size=1, max_size=6), versions, st.data())
def test_with_versions_too_order_and_repetition_do_not_show(
    told: list[list[TierMove]], later: list[tuple[datetime, Program]], data: st.DataObject
) -> None:
    rules = program()
    rules.follow(lambda: 0, lambda: later)
    revisions = list(enumerate(told, start=1))
    in_order, shuffled, alone = (Account(rules=rules) for _ in range(3))
    for revision, timeline in revisions:
        in_order.hear(revision, timeline)
    for revision, timeline in data.draw(st.permutations(revisions + revisions)):
        shuffled.hear(revision, timeline)
    alone.hear(*revisions[-1])
    assert shuffled.shown() == in_order.shown() == alone.shown()
    for voucher in alone.vouchers.values():
        assert voucher.terms == terms_of(voucher.definition, rules.at(voucher.issued_at))


@given(st.lists(timelines, min_size=1, max_size=6))
def test_hearing_the_last_again_changes_nothing(told: list[list[TierMove]]) -> None:
    account = Account()
    for revision, timeline in enumerate(told, start=1):
        account.hear(revision, timeline)
    assert decide(told[-1], account.grants, PROGRAM) == {}
    calls = wanted(told[-1], account.grants)
    assert reconcile("c", account.vouchers.values(), calls) == ()


@given(timelines)
def test_every_voucher_counts_from_its_cause_for_whole_days(timeline: list[TierMove]) -> None:
    account = Account()
    account.hear(1, timeline)
    since = {f"{move.tier}#{move.reach}": move.since for move in timeline}
    for voucher in account.vouchers.values():
        assert voucher.issued_at == since[voucher.cause.id]
        assert voucher.expires_at is None or voucher.expires_at > voucher.issued_at


@given(st.integers(0, (1 << 80) - 1), st.randoms(use_true_random=False))
def test_codes_survive_typing(number: int, random: Any) -> None:
    code = encode(number)
    alike = {"0": "0Oo", "1": "1IiLl"}
    typed = "".join(
        random.choice(alike.get(char, char + char.lower())) + random.choice(["", "-", " "])
        for char in code
    )
    assert normalise(typed) == code


@given(st.integers(0, (1 << 80) - 1), st.integers(0, 15), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_noticed(number: int, place: int, char: str) -> None:
    code = encode(number)
    wrong = code[:place] + char + code[place + 1 :]
    if wrong != code:
        with pytest.raises(InvalidCodeError):
            normalise(wrong)
