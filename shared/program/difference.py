"""What differs between two programs, field by field, and whom each difference reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from shared.clock import Period
from shared.program.mistakes import Path, dotted
from shared.program.model import Program

Reach = Literal[
    "reading", "reports", "purchases", "campaigns", "tiers", "rewards", "vouchers", "everything"
]

# Whom a change reaches, by the longest path that fits; what is named nowhere reaches everything.
REACHES: tuple[tuple[Path, Reach], ...] = (
    (("name",), "reading"),
    (("shops",), "purchases"),
    (("enrolment",), "purchases"),
    (("guests",), "purchases"),
    (("transfers",), "purchases"),
    (("grace_on_restore",), "purchases"),
    (("corrections",), "purchases"),
    (("earning",), "purchases"),
    (("earning", "point_value"), "reports"),
    (("earning", "campaigns"), "campaigns"),
    (("tiers",), "tiers"),
    (("rewards",), "rewards"),
    (("vouchers",), "vouchers"),
)
SAYS: Mapping[Reach, str] = {
    "reading": "only what people read",
    "reports": "only reports",
    "purchases": "what happens from then on; lots keep their points and dates",
    "campaigns": "purchases from then on; what caps and budgets have given counts on",
    "tiers": "the way of customers through the levels",
    "rewards": "rewards that are taken from then on",
    "vouchers": "vouchers given for what happens from then on; those that members have stay as they are",
    "everything": "every point there is",
}
# Items of a list are the same if these are.
KEYS = ("id", "activity")


class Difference(NamedTuple):
    """A field that differs: ``old`` and ``new`` as they would be written; None where it is not there."""

    path: Path
    old: str | None
    new: str | None
    meaning: str

    @property
    def reach(self) -> Reach:
        """Whom it reaches."""
        fits = [(len(p), r) for p, r in REACHES if self.path[: len(p)] == p]
        if self.path[-1:] == ("name",):
            return "reading"
        return max(fits)[1] if fits else "everything"

    @property
    def field(self) -> str:
        """Its place in the file."""
        return dotted(self.path)

    def words(self) -> str:
        """One sentence."""
        if self.old is None:
            return f"{self.field} is new: {self.new}"
        if self.new is None:
            return f"{self.field} is gone: it was {self.old}"
        return f"{self.field} was {self.old} and is {self.new}"


def difference(old: Program, new: Program) -> list[Difference]:
    """Find every field that differs, in the order of the file; equal programs differ in nothing."""
    return list(_sections(old, new, ()))


def _sections(old: BaseModel, new: BaseModel, path: Path) -> Iterator[Difference]:
    for name, field in type(new).model_fields.items():
        place = (*path, field.alias or name)
        yield from _values(getattr(old, name), getattr(new, name), place, field.description or "")


def _values(old: Any, new: Any, path: Path, meaning: str) -> Iterator[Difference]:
    if old == new:
        return
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        yield from _sections(old, new, path)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _items(old, new, path, meaning)
    elif _keyed(old) and _keyed(new):
        before, after = _by_key(old), _by_key(new)
        yield from _items(before, after, path, meaning)
        common = [key for key in before if key in after]
        if common != [key for key in after if key in before]:
            yield Difference(path, ", ".join(before), ", ".join(after), "their order")
    else:
        yield Difference(path, written(old), written(new), meaning)


def _items(
    old: Mapping[str, Any], new: Mapping[str, Any], path: Path, meaning: str
) -> Iterator[Difference]:
    for key in dict.fromkeys((*old, *new)):
        if key in old and key in new:
            yield from _values(old[key], new[key], (*path, key), meaning)
        else:
            yield Difference((*path, key), written(old.get(key)), written(new.get(key)), meaning)


def _keyed(value: Any) -> bool:
    return isinstance(value, tuple) and all(_key(item) is not None for item in value)


def _by_key(items: Sequence[Any]) -> dict[str, Any]:
    return {_key(item) or "": item for item in items}


def _key(item: Any) -> str | None:
    found = (getattr(item, name, None) for name in KEYS)
    return next((key for key in found if isinstance(key, str)), None)


def written(value: Any) -> str | None:
    """Write a value as a program file has it; a section with what it says beside its defaults."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {
            fields[name].alias or name: getattr(value, name)
            for name in fields
            if getattr(value, name) != fields[name].default
        }
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, frozenset | tuple):
        items = sorted(value) if isinstance(value, frozenset) else value
        return "[" + ", ".join(str(written(item)) for item in items) + "]"
    return None if value is None else _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        # A program's multipliers are written as decimals, so they end.
        return f"{(Decimal(value.numerator) / Decimal(value.denominator)).normalize():f}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, str | int | Period) else repr(value)
