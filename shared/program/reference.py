"""``python -m shared.program.reference``: write the reference page of the program file's keys."""

from __future__ import annotations

import builtins
import sys
import typing
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from shared.program.fields import Says
from shared.program.loader import section_of
from shared.program.mistakes import Path, dotted
from shared.program.model import Program
from shared.program.rules import LATER_PARTS, LATER_WORDS
from shared.program.versions import MAY_CHANGE

PAGE = File(__file__).parents[2] / "docs" / "reference" / "program-file.md"

_INTRO = """\
<!-- Written by `python -m shared.program.reference` from shared/program; do not edit. -->

# The program file

All rules of a loyalty program in one YAML file: how points are earned, which levels there are, what
customers get. `programs/demo.yaml` is one to start from. Check a file before anything runs with it:

    .venv/bin/python -m shared.program programs/demo.yaml

It prints the version of the rules, or every mistake at once with its line, its field and what is
allowed. The version is made from the content: the same rules have the same version, however they
are laid out; any other rule gives another.

## How values are written

| Value | Written as |
|---|---|
| text | as it is; in quotes if it looks like a number: `"2027"` |
| id | letters, digits, `-`, `_` and `.`, at most 64, no spaces |
| number, money | `1.25` or `"1.25"`: read exactly as written; no thousands separators, no exponents |
| period | ISO 8601: `P12M` months · `P30D` days · `P2W` weeks · `P1Y` years · `PT15M` minutes; 0 is `P0D` |
| day or moment | `2027-11-28`, `2027-11-28T18:00`; without a zone in the program's `timezone` |
| list | `[a, b]`, or one item a line after `- ` |
| currency code | ISO 4217: `EUR`; amounts may have as many digits as the currency has |
| time zone | a name of the IANA database: `Europe/Berlin` |

A key that is not listed here is a mistake, and so are a key written twice, anchors (`&`, `*`) and
tags (`!`). A file may have 256 KiB. *Not yet*: checked, but not supported by this version; a file
that uses it is refused.
"""

_RULES = """\
## Rules between keys

- Level thresholds rise from each to the next; for `points` and `purchases` they are whole numbers.
- Ids are there once: levels, campaigns, rewards; so are the names of levels.
- `on_reach` and rewards name vouchers that are defined in `vouchers`, each once.
- A window of kind `rolling` has a `length`, any other has none. Expiry of kind `none` has neither
  `after` nor `round_up`, any other has `after`.
- A `percent` voucher has `percent`; `amount` and `gift_card` have `amount`; `free_product` has
  `sku`; `free_shipping` has none of them. `max_discount` goes with `percent` and `free_shipping`.
  A gift card has neither `min_order` nor `max_redemptions`.
- A campaign ends after it begins and has a `multiplier` or a `bonus`.

## What a version may change

`treue program apply new.yaml --valid-from INSTANT` lets another file hold for what happens from an
instant on ([0047](../decisions/0047-versions-of-the-whole-program.md)). It may change

{may}

Levels may come, but not go, change places or be the lowest instead, and change more than a day
ahead. Everything else would value points anew that are there, and is refused.
"""


def page() -> str:
    """Write the whole page."""
    may = "\n".join(f"- `{dotted(place)}`" for place in MAY_CHANGE)
    return "\n".join([_INTRO, *_sections(Program, ()), _RULES.replace("{may}", may)])


def _sections(section: type[BaseModel], path: Path) -> Iterator[str]:
    hints = get_type_hints(section, include_extras=True)
    title = dotted(path) if path else "The file"
    rows = [
        f"| `{field.alias or name}` | {_value(hints[name])} | {_default(field)} "
        f"| {field.description}{_later((*path, field.alias or name))} |"
        for name, field in section.model_fields.items()
    ]
    head = ["| Key | Value | Without it | Meaning |", "|---|---|---|---|"]
    yield "\n".join([f"## {title}\n", f"{section.__doc__}\n", *head, *rows, ""])
    for name, field in section.model_fields.items():
        below = section_of(field.annotation)
        if below is not None:
            yield from _sections(below, (*path, (field.alias or name) + _many(hints[name])))


def _value(hint: Any) -> str:
    """Call the kind of a value by its name."""
    said = [extra.words for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Says)]
    if said:
        return str(said[0])
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    match get_origin(hint):
        case typing.Literal:
            value = ", ".join(f"`{word}`" for word in inner)
        case builtins.tuple | builtins.frozenset:
            value = f"list: {_value(inner[0])}"
        case builtins.dict:
            value = "id: section, below"
        case None:
            value = "section, below"
        case _:  # Annotated, or an optional value
            value = _value(inner[0])
    return value


def _many(hint: Any) -> str:
    """Mark in a heading that there are several of a section."""
    value = _value(hint)
    return "[…]" if value.startswith("list") else ".ID" if value.startswith("id") else ""


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        return "**needed**"
    if default is None:
        return "–"
    if isinstance(default, BaseModel):
        written = default.model_dump(exclude_unset=True)
        return ", ".join(f"`{key}: {value}`" for key, value in written.items()) or "–"
    if isinstance(default, tuple | frozenset | dict):
        return ", ".join(f"`{item}`" for item in sorted(default)) or "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _later(path: Path) -> str:
    if path in LATER_PARTS:
        return " (*not yet*)"
    words = [f"`{word}`" for place, word, _ in LATER_WORDS if place == path]
    return f" ({', '.join(words)}: *not yet*)" if words else ""


def main() -> int:
    """Write the page to its place."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
