"""Two customers buy, turn out to be one, and buy again: by real commands, workers, Kafka and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.fixtures.events import event, merge, purchase
from tests.fixtures.live import LiveStack, live_stack

pytestmark = [pytest.mark.stack, pytest.mark.servers, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    with live_stack(tmp_path_factory.mktemp("merged") / "stack") as one:
        yield one


def told(*events: dict[str, Any]) -> list[bytes]:
    return [json.dumps(one).encode() for one in events]


def bought(order: str, who: str, day: str, pounds: int) -> dict[str, Any]:
    return event(purchase(order, who, f"{day}T10:00:00Z", f"{pounds}.00"))


def get(stack: LiveStack, service: str, who: str, path: str) -> Any:
    content = stack.json()
    request = Request(  # noqa: S310 - our own http
        f"{content[f'{service}_url']}/v1/customers/{who}/{path}",
        headers={"Authorization": f"Bearer {content['api_key']}"},
    )
    with urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.load(answer)


def test_both_ids_answer_the_same(stack: LiveStack) -> None:
    stack.publish(
        told(
            bought("a1", "ann", "2026-08-01", 600),
            bought("b1", "anna", "2026-08-02", 550),
            bought("c1", "cleo", "2026-08-02", 300),
            bought("d1", "cleopatra", "2026-08-03", 300),
        )
    )
    stack.drain()
    assert get(stack, "tiers", "cleo", "tier")["tier"]["id"] == "bronze"
    stack.publish(
        told(
            merge("ann", "anna", "2026-09-01T10:00:00Z"),
            merge("cleo", "cleopatra", "2026-09-01T10:00:00Z"),
        )
    )
    stack.drain()
    stack.publish(
        told(bought("a2", "ann", "2026-09-10", 400), bought("b2", "anna", "2026-09-11", 500))
    )
    stack.drain()
    for one, other, tier, vouchers in (
        ("ann", "anna", "gold", ["gold#1", "silver#1", "silver#1"]),
        ("cleo", "cleopatra", "silver", ["silver#1"]),
    ):
        found = get(stack, "tiers", one, "tier")
        assert found["tier"]["id"] == tier
        same = get(stack, "tiers", other, "tier")
        # Each answer names whom it was asked for, and its own moment.
        for key in ("tier", "since", "valid_until", "next_tier"):
            assert found[key] == same[key]
        assert found["qualifying"]["amount"] == same["qualifying"]["amount"]
        held = get(stack, "rewards", one, "vouchers")["data"]
        assert [voucher["cause"]["id"] for voucher in held] == vouchers
        assert held == get(stack, "rewards", other, "vouchers")["data"]
        assert (
            get(stack, "points", one, "balance")["available"]
            == get(stack, "points", other, "balance")["available"]
        )
        path = "tier/history"
        assert get(stack, "tiers", one, path) == get(stack, "tiers", other, path)
    # Silver when each of the last three was bought: 600 + 687 + 500 + 625.
    assert get(stack, "points", "ann", "balance")["available"] == 2412
    stack.verify()


def test_a_rebuild_ends_the_same(stack: LiveStack) -> None:
    found = json.loads(stack.run("rebuild", "--json"))
    assert found["equal"], found
    assert found["parts"]["vouchers"]["customers"] == 3
