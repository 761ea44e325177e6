"""One customer's story, told by the three APIs: purchases, points, levels with their dates, vouchers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.table import Table

from shared.cli.letters import connection
from shared.cli.words import counted
from shared.db import statements
from shared.errors import UsageError

sql = statements.load(Path(__file__).parent / "sql" / "demo.sql")

ANSWER_SECONDS_MAX = 15.0
HTTP_OK = 200
EARLIER = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Story:
    """What the APIs answer about one customer."""

    customer: str
    balance: dict[str, Any]
    entries: list[dict[str, Any]]
    tier: dict[str, Any]
    history: list[dict[str, Any]]
    vouchers: list[dict[str, Any]]


async def choose(dsns: Mapping[str, str]) -> str | None:
    """A customer worth telling of: always the same one for the same purchases on the same day."""
    async with connection("tiers", dsns["tiers"]) as conn:
        candidates = [row["customer_id"] for row in await conn.fetch(sql.tiers_candidates)]
    async with connection("rewards", dsns["rewards"]) as conn:
        holder = await conn.fetchval(sql.rewards_holders, candidates)
    return holder or next(iter(candidates), None)


def ask(stack: Mapping[str, Any], service: str, path: str) -> Any:
    """What an API of the stack answers. Raises UsageError if it does not answer 200."""
    url = urlsplit(stack[f"{service}_url"])
    link = HTTPConnection(url.hostname or "", url.port, timeout=ANSWER_SECONDS_MAX)
    try:
        link.request("GET", path, headers={"Authorization": f"Bearer {stack['api_key']}"})
        response = link.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        raise UsageError(
            f"the API of {service} does not answer ({error}); see `treue status`"
        ) from None
    finally:
        link.close()
    if response.status != HTTP_OK:
        raise UsageError(f"the API of {service} answers {response.status} to GET {path}")
    return json.loads(body)


def read(stack: Mapping[str, Any], customer: str) -> Story:
    """Everything the three APIs know about a customer."""
    path = f"/v1/customers/{quote(customer, safe='')}"
    return Story(
        customer=customer,
        balance=ask(stack, "points", f"{path}/balance"),
        entries=ask(stack, "points", f"{path}/entries?limit=100")["data"],
        tier=ask(stack, "tiers", f"{path}/tier"),
        history=ask(stack, "tiers", f"{path}/tier/history?limit=100")["data"],
        vouchers=ask(stack, "rewards", f"{path}/vouchers?limit=100")["data"],
    )


def tell(story: Story, zone: tzinfo, console: Console) -> None:
    """The story in the order in which it happened."""
    balance, tier = story.balance, story.tier
    level = tier["tier"]["name"] if tier["tier"] else "no level yet"
    soon = balance["expiring_next"]
    expiring = (
        f"; {soon['points']:,} of them expire after {_last_day(soon['expires_at'], zone)}"
        if soon
        else ""
    )
    purchases = sum(entry["kind"] == "earned" for entry in story.entries)
    console.print(
        f"Customer {story.customer} is {level}, has bought {counted(purchases, 'time')}"
        f" and has {balance['available']:,} points{expiring}."
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for _, day, what in sorted(_moments(story, zone), key=lambda moment: moment[0]):
        table.add_row(day, what)
    console.print(table)
    if story.entries:
        console.print(f"The newest entry explains itself: {story.entries[0]['explanation']}")
    following = tier.get("next_tier")
    if following:
        console.print(f"For {following['id']}, {following['missing']} {_basis(tier)} are missing.")


def _basis(tier: Mapping[str, Any]) -> str:
    return str(tier["qualifying"]["basis"])


def _moments(story: Story, zone: tzinfo) -> list[tuple[str, str, str]]:
    """Instant, day and what happened: each change of level, each voucher."""
    words = {"upgraded": "reaches", "retained": "keeps", "downgraded": "falls to"}
    found = []
    purchases = [entry for entry in story.entries if entry["kind"] == "earned"]
    if purchases:
        first = min(purchases, key=lambda entry: str(entry["occurred_at"]))
        what = f"buys for the first time, order {first['order_id']}: {first['points']:,} points"
        found.append((first["occurred_at"], _day(first["occurred_at"], zone), what))
    for entry in story.entries:
        if entry["kind"] == "clawed_back" and entry["points"]:
            what = f"gives back goods of order {entry['order_id']}: {entry['points']:,} points"
            found.append((entry["occurred_at"], _day(entry["occurred_at"], zone), what))
    for move in story.history:
        why = _why(move.get("cause") or {})
        until = f", until {_last_day(move['valid_until'], zone)}" if move["valid_until"] else ""
        what = f"{words.get(move['kind'], move['kind'])} {move['tier']['name']}{why}{until}"
        found.append((move["since"] + "+", _day(move["since"], zone), what))
    for voucher in story.vouchers:
        until = _last_day(voucher["expires_at"], zone) if voucher["expires_at"] else "for ever"
        state = {"issued": f"valid until {until}", "expired": f"expired after {until}"}
        what = (
            f"gets voucher {voucher['code']} ({voucher.get('name') or voucher['voucher']}):"
            f" {state.get(voucher['state'], voucher['state'])}"
        )
        # Purchase or refund, level and voucher share one instant and are told in this order.
        found.append((voucher["issued_at"] + "~", _day(voucher["issued_at"], zone), what))
    return found


def _why(cause: Mapping[str, Any]) -> str:
    order = cause.get("order_id")
    if not order:
        return ""
    refund = cause.get("refund_id")
    named = f" ({refund})" if refund else ""
    return (
        f" as order {order} came back{named}"
        if cause.get("type") == "refund"
        else f" with order {order}"
    )


def _day(instant: str, zone: tzinfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d}"


def _last_day(end: str, zone: tzinfo) -> str:
    """The last day of something that ends, exclusively, at an instant."""
    return f"{datetime.fromisoformat(end).astimezone(zone) - EARLIER:%Y-%m-%d}"
