"""What commands print: invariants and violations, a customer's story, the summary of the demonstration."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from rich.console import Console

from shared.cli import story, summary, verify
from shared.cli.lag import Left, Look
from shared.cli.online_retail import Account
from shared.cli.summary import Figures
from shared.cli.words import counted
from shared.invariants import Result
from shared.stack.layout import Layout, checkout

LONDON = ZoneInfo("Europe/London")


def screen() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=140, highlight=False), text


def test_numbers_have_their_nouns() -> None:
    told = [counted(number, "event") for number in (0, 1, 2000)]
    assert told == ["0 events", "1 event", "2,000 events"]


def test_a_look_says_what_is_left() -> None:
    ends = {("treue.purchases", 0): 10, ("treue.tiers", 0): 5, ("treue.points", 0): 7}
    look = Look(
        ends, (Left("points", "treue.purchases", 0, 3),), {"points": 0, "tiers": 2}, {"points": 12}
    )
    assert not look.done
    assert look.behind("points") == 3
    assert look.total("points") == 15
    assert look.told() == [
        "points: 3 events of treue.purchases/0 not consumed",
        "tiers: 2 events in the outbox not published",
    ]
    assert Look(ends).done


def test_violations_are_shown_with_their_rows() -> None:
    console, text = screen()
    bad = Result("balance-is-sum", "the balance is the sum", 30, [{"customer_id": "[b]c1", "n": 2}])
    report = verify.Report({"points": [Result("fine", "this holds"), bad]})
    verify.show(report, console)
    told = text.getvalue()
    assert "this holds" in told
    assert "points: balance-is-sum does not hold (30):" in told
    assert "customer_id [b]c1, n 2" in told
    assert "… and 29 more" in told
    assert "2 invariants checked, 30 violations." in told
    assert not report.ok


def test_what_cannot_be_compared_yet_is_no_violation() -> None:
    console, text = screen()
    report = verify.Report({"points": [Result("fine", "this holds")]}, ["points: 3 events …"])
    verify.show(report, console)
    assert "1 invariants checked, 0 violations." in text.getvalue()
    assert "Run `treue drain` first." in text.getvalue()
    assert not report.ok


def test_a_service_checks_itself_with_the_settings_of_its_stack() -> None:
    stack = {
        "kafka": "127.0.0.1:1",
        "postgres": {"tiers": "postgresql://t"},
        "program": "p.yaml",
        "tiers_url": "http://127.0.0.1:8102",
    }
    found = verify.environment("tiers", stack, Layout(Path("/some")))
    assert found["TREUE_TIERS_DATABASE"] == "postgresql://t"
    assert found["TREUE_TIERS_PORT"] == "8102"
    assert found["TREUE_TIERS_PROGRAM"] == "p.yaml"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "Traceback\n  x\nasyncpg.PostgresSyntaxError: no\nHINT: try",
            "asyncpg.PostgresSyntaxError: no",
        ),
        ("points check: PROGRAM is missing\n", "points check: PROGRAM is missing"),
        ("", ""),
    ],
)
def test_the_sentence_that_matters(text: str, why: str) -> None:
    assert verify._why(text) == why


def a_story() -> story.Story:
    gold = {"id": "gold", "name": "Gold"}
    return story.Story(
        customer="13495",
        balance={
            "available": 2425,
            "expiring_next": {"points": 953, "expires_at": "2026-07-31T23:00:00Z"},
        },
        entries=[
            {
                "kind": "earned",
                "points": 510,
                "occurred_at": "2026-06-01T10:00:00Z",
                "order_id": "7",
                "explanation": "510 points: because.",
            },
            {
                "kind": "clawed_back",
                "points": -20,
                "occurred_at": "2026-06-03T10:00:00Z",
                "order_id": "7",
                "explanation": "",
            },
        ],
        tier={"tier": gold, "next_tier": None, "qualifying": {"basis": "points"}},
        history=[
            {
                "kind": "upgraded",
                "tier": gold,
                "since": "2026-06-01T10:00:00Z",
                "valid_until": "2027-06-01T23:00:00Z",
                "cause": {"type": "purchase", "order_id": "7"},
            },
            {
                "kind": "downgraded",
                "tier": gold | {"name": "Silber"},
                "since": "2026-06-03T10:00:00Z",
                "valid_until": None,
                "cause": {"type": "refund", "order_id": "7", "refund_id": "C8"},
            },
        ],
        vouchers=[
            {
                "code": "ABCD",
                "name": "25 £",
                "voucher": "welcome",
                "state": "issued",
                "issued_at": "2026-06-01T10:00:00Z",
                "expires_at": "2026-08-30T23:00:00Z",
            }
        ],
    )


def test_a_story_is_told_in_order_with_the_last_days_of_things() -> None:
    console, text = screen()
    story.tell(a_story(), LONDON, console)
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines == [
        "Customer 13495 is Gold, has bought 1 time and has 2,425 points; 953 of them expire after 2026-07-31.",
        "2026-06-01  buys for the first time, order 7: 510 points",
        "2026-06-01  reaches Gold with order 7, until 2027-06-01",
        "2026-06-01  gets voucher ABCD (25 £): valid until 2026-08-30",
        "2026-06-03  gives back goods of order 7: -20 points",
        "2026-06-03  falls to Silber as order 7 came back (C8)",
        "The newest entry explains itself: 510 points: because.",
    ]


def test_the_summary_has_the_numbers_and_the_links() -> None:
    account = Account(
        purchases=96,
        purchase_lines=90,
        cancellations=4,
        cancelled_lines=9,
        first=datetime(2025, 11, 13, tzinfo=UTC),
    )
    account.last = datetime(2026, 11, 21, tzinfo=UTC)
    account.left_out["adjustment"].lines = 3
    account.left_out["adjustment"].invoices.add("A1")
    figures = Figures(
        account=account,
        of=20_725,
        moved=timedelta(days=5461),
        published=100,
        seconds_points=0.5,
        seconds_all=2.0,
        events=400,
        applied=0,
        duplicates=100,
        poison=2,
        invariants=31,
        totals={
            "points": 1234,
            "customers": 7,
            "credited": 80,
            "bonus": 34,
            "taken": 56,
            "available": 1200,
            "guests": 20,
        },
        cancellations={"matched": 1, "partly": 2, "uncredited": 1},
        levels={None: 4, "gold": 2, "odd": 1},
        vouchers=[{"definition": "welcome-gold", "issued": 2, "valid": 1}],
    )
    stack = {f"{name}_url": f"http://{name}" for name in ("points", "tiers", "rewards")}
    stack |= {"api_key": "k", "program": str(checkout() / "programs" / "demo.yaml")}
    console, text = screen()
    summary.show(stack, figures, a_story(), console)
    told = text.getvalue()
    for part in (
        "96 (the first of 20,725) with 90 lines, 2025-11-13 to 2026-11-21",
        "(in truth 2010-12-01 to 2011-12-09)",
        "100, all of them: recognised, they change nothing",
        "4 with 9 lines, told without an order: 1 found all of it among the customer's purchases",
        "2 a part of it, 1 are guests'",
        "200 purchases and cancellations/s",
        "1,200 can be spent now; 56 were taken back for what was cancelled",
        "400 events through three services in 2.0 s",
        "1,234 earned by 7 customers with 80 purchases, 34 of them through their tier",
        "20 purchases name no customer",
        "1 adjustments of the books (A…, negative prices), 3 lines",
        "31 invariants over three databases, 0 violations",
        "2: `treue dead-letters list` says why",
        "One customer's story",
        "http://tiers/docs",
        "curl -H 'Authorization: Bearer k' http://rewards/v1/customers/13495/vouchers",
    ):
        assert part in told, part
    rows = {line.split()[0]: line.split()[1] for line in told.splitlines() if "█" in line}
    # Who has reached nothing stands on the level that begins at nothing.
    assert rows == {"Gold": "2", "Bronze": "4", "odd": "1"}
