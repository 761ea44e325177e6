"""Rules between fields: checked on the file's raw content, so that they speak even beside other mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic_core import PydanticCustomError

from shared.clock import local_instant, local_midnight
from shared.money import UnknownCurrency, currency_digits, minor_units
from shared.program.mistakes import Finding, Path
from shared.program.values import Number, as_decimal, as_moment, as_timezone, did_you_mean, shown

T = TypeVar("T")
Findings = Iterator[Finding]

# What the file may say but this version does not do: (path, word, what it does instead).
LATER_WORDS: tuple[tuple[Path, str, str], ...] = (
    (("tiers", "window", "kind"), "anniversary", "rolling, calendar_year, lifetime"),
)
LATER_PARTS: tuple[Path, ...] = (
    ("rewards", "birthday"),
    ("rewards", "catalog"),
)


class Raw:
    """Tolerant access to a file's content: what is missing or of another shape is just not there."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def at(self, *path: str | int) -> Any:
        """Return what is at a path, or None."""
        value = self.data
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def mapping(self, *path: str | int) -> dict[str, Any]:
        """Return the mapping at a path; empty if there is none."""
        value = self.at(*path)
        return value if isinstance(value, dict) else {}

    def items(self, *path: str | int) -> Iterator[tuple[Path, Any]]:
        """Go through a list, each item with its path."""
        value = self.at(*path)
        for index, item in enumerate(value if isinstance(value, list) else []):
            yield (*path, index), item

    def read(self, reader: Callable[[Any], T], *path: str | int) -> T | None:
        """Return the value at a path if it can be read; what is wrong with it is told elsewhere."""
        try:
            return reader(self.at(*path))
        except PydanticCustomError:
            return None


def check(data: Any) -> Findings:
    """Find all mistakes that no single field shows."""
    raw = Raw(data)
    for rule in (
        _shops,
        _expiry,
        _window,
        _levels,
        _campaigns,
        _activities,
        _rewards,
        _vouchers,
        _money,
    ):
        yield from rule(raw)


def not_yet(data: Any) -> Findings:
    """Find what is rightly written but not alive in this version: refused, never ignored."""
    raw = Raw(data)
    for path, word, allowed in LATER_WORDS:
        if raw.at(*path) == word:
            yield Finding(path, f"{word} is not supported yet", allowed)
    for path in LATER_PARTS:
        if raw.at(*path):
            yield Finding(path, "is not supported yet", "leave it out")


def _shops(raw: Raw) -> Findings:
    if "shops" in raw.mapping() and raw.at("shops") in (None, []):
        yield Finding(
            ("shops",), "is empty", "at least one; without this line, any shop takes part"
        )


def _expiry(raw: Raw) -> Findings:
    at: Path = ("earning", "expiry")
    if not isinstance(raw.at(*at), dict):
        return
    kind = raw.mapping(*at).get("kind", "after")
    after, round_up = raw.at(*at, "after"), raw.at(*at, "round_up")
    if kind == "none":
        for key, value in (("after", after), ("round_up", round_up)):
            if value is not None:
                yield Finding((*at, key), "has no meaning with kind: none", "leave it out")
    elif kind in ("after", "inactivity") and after is None:
        yield Finding((*at, "after"), "is missing", "a period such as P12M, or {kind: none}")


def _window(raw: Raw) -> Findings:
    at: Path = ("tiers", "window")
    kind, length = raw.at(*at, "kind"), raw.at(*at, "length")
    if kind == "rolling" and length is None:
        yield Finding((*at, "length"), "is missing: rolling needs it", "a period such as P12M")
    elif kind in ("calendar_year", "lifetime", "anniversary") and length is not None:
        yield Finding((*at, "length"), f"has no meaning with kind: {kind}", "leave it out")


def _levels(raw: Raw) -> Findings:
    at: Path = ("tiers", "levels")
    if raw.at(*at) == []:
        yield Finding(at, "is empty", "at least one level")
    yield from _unique(raw, at, "id")
    yield from _unique(raw, at, "name")
    before: Decimal | None = None
    for path, _ in raw.items(*at):
        threshold = raw.read(as_decimal, *path, "threshold")
        if threshold is not None:
            if before is not None and threshold <= before:
                message = f"{threshold} is not above the {before} of the level before"
                yield Finding((*path, "threshold"), message, f"more than {before}")
            if raw.at("tiers", "basis") in (None, "points", "purchases") and threshold % 1:
                message = f"{threshold} is not whole, but points and purchases are"
                yield Finding((*path, "threshold"), message, "a whole number")
            before = threshold
        seen: set[str] = set()
        for place, voucher in raw.items(*path, "on_reach"):
            yield from _known(raw, place, "vouchers")
            if isinstance(voucher, str) and voucher in seen:
                yield Finding(place, f"{shown(voucher)} is given twice", "each voucher once")
            seen.add(str(voucher))


def _campaigns(raw: Raw) -> Findings:
    at: Path = ("earning", "campaigns")
    yield from _unique(raw, at, "id")
    for path, item in raw.items(*at):
        start, end = _moment(raw, (*path, "from")), _moment(raw, (*path, "until"), end=True)
        if start and end and end <= start:
            message = f"ends ({item['until']}) before it begins ({item['from']})"
            yield Finding((*path, "until"), message, f"after {item['from']}")
        if isinstance(item, dict) and item.get("multiplier") is None and item.get("bonus") is None:
            yield Finding(path, "gives nothing", "a multiplier or a bonus")
        factor = raw.read(as_decimal, *path, "multiplier")
        if factor is not None and 0 < factor <= 1:
            message = f"{factor} gives nothing: it is times the points"
            yield Finding((*path, "multiplier"), message, "more than 1")
        hours = raw.mapping(*path, "when", "hours")
        if "from" in hours and hours["from"] == hours.get("until"):
            message = f"end ({hours['until']}) when they begin"
            yield Finding((*path, "when", "hours", "until"), message, "another time of the day")
        for place, _ in raw.items(*path, "when", "tiers"):
            yield from _known(raw, place, "tiers")


def _activities(raw: Raw) -> Findings:
    yield from _unique(raw, ("earning", "activities"), "activity")


def _rewards(raw: Raw) -> Findings:
    at: Path = ("rewards", "catalog")
    yield from _unique(raw, at, "id")
    for path, _ in raw.items(*at):
        yield from _known(raw, (*path, "voucher"), "vouchers")
        yield from _known(raw, (*path, "min_tier"), "tiers")
    yield from _known(raw, ("rewards", "birthday", "voucher"), "vouchers")
    for place, _ in raw.items("rewards", "birthday", "tiers"):
        yield from _known(raw, place, "tiers")


# What decides a voucher's worth: kind → (needed, possible).
_WORTH: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "percent": (frozenset({"percent"}), frozenset({"max_discount"})),
    "amount": (frozenset({"amount"}), frozenset()),
    "gift_card": (frozenset({"amount"}), frozenset()),
    "free_product": (frozenset({"sku"}), frozenset()),
    "free_shipping": (frozenset(), frozenset({"max_discount"})),
}
_WORTH_KEYS = ("percent", "amount", "sku", "max_discount")


def _vouchers(raw: Raw) -> Findings:
    for name, voucher in raw.mapping("vouchers").items():
        if not isinstance(voucher, dict):
            continue
        kind = voucher.get("kind")
        if not isinstance(kind, str) or kind not in _WORTH:
            continue
        needed, possible = _WORTH[kind]
        at: Path = ("vouchers", name)
        for key in _WORTH_KEYS:
            if key in needed and voucher.get(key) is None:
                yield Finding((*at, key), f"is missing: kind {kind} needs it")
            elif key not in needed | possible and voucher.get(key) is not None:
                yield Finding((*at, key), f"has no meaning with kind: {kind}", "leave it out")
        if kind == "gift_card":
            # A gift card is money that was paid for: it is used up, in as many purchases as it takes.
            for key in ("min_order", "max_redemptions"):
                if voucher.get(key) is not None:
                    yield Finding((*at, key), "has no meaning with kind: gift_card", "leave it out")


def _money(raw: Raw) -> Findings:
    code = raw.at("currency")
    try:
        digits = currency_digits(code) if isinstance(code, str) else None
    except UnknownCurrency:
        digits = None
    if digits is None:
        return
    places: list[Path] = [("earning", "base", "per")]
    places += [(*path, "when", "minimum") for path, _ in raw.items("earning", "campaigns")]
    if raw.at("tiers", "basis") == "spend":
        places += [(*path, "threshold") for path, _ in raw.items("tiers", "levels")]
    places += [
        ("vouchers", name, key)
        for name in raw.mapping("vouchers")
        for key in ("amount", "min_order", "max_discount")
    ]
    for place in places:
        amount = raw.read(as_decimal, *place)
        if amount is None:
            continue
        try:
            minor_units(amount, code)
        except ValueError:
            message = f"{amount} has more digits than {code} has"
            yield Finding(place, message, f"{digits} after the point")


def _unique(raw: Raw, at: Path, key: str) -> Findings:
    first: dict[str, Path] = {}
    for path, _ in raw.items(*at):
        value = raw.at(*path, key)
        if isinstance(value, str) and first.setdefault(value, path) != path:
            message = f"{shown(value)} is there already, as item {first[value][-1]}"
            yield Finding((*path, key), message, "each once")


def _known(raw: Raw, place: Path, part: str) -> Findings:
    """Check a reference to a voucher or a level."""
    value = raw.at(*place)
    if not isinstance(value, str) or isinstance(value, Number):
        return
    if part == "vouchers":
        known, kind = list(raw.mapping("vouchers")), "voucher"
    else:
        ids = (raw.at(*path, "id") for path, _ in raw.items("tiers", "levels"))
        known, kind = [name for name in ids if isinstance(name, str)], "level"
    if value not in known:
        message = f"there is no {kind} {shown(value)}{did_you_mean(value, known)}"
        yield Finding(place, message, ", ".join(known) or f"no {kind} is defined")


def _moment(raw: Raw, path: Path, *, end: bool = False) -> datetime | None:
    """Return the instant of a campaign's first or last moment, in the program's zone."""
    moment, name = raw.read(as_moment, *path), raw.read(as_timezone, "timezone")
    if moment is None:
        return None
    zone = ZoneInfo(name or "UTC")
    try:
        if isinstance(moment, datetime):
            return moment if moment.tzinfo else local_instant(moment, zone)
        return local_midnight(moment + timedelta(days=1) if end else moment, zone)
    except (ValueError, OverflowError):
        return None
