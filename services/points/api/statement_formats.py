"""A statement as CSV, and as a page to print, which customers read in German."""

from __future__ import annotations

import csv
import io
from datetime import date, datetime, timedelta
from html import escape
from urllib.parse import quote
from zoneinfo import ZoneInfo

from starlette.responses import Response

from services.points.api.report_schemas import Statement, StatementEntry
from services.points.domain.wording import number
from shared import clock
from shared.program import Program

COLUMNS = (
    *("occurred_at", "kind", "points", "balance", "shop", "order_id", "expires_at"),
    *("entry_id", "lot_id", "explanation", "explanation_de"),
)
# A spreadsheet takes text that begins so for a formula; a quote in front makes it text again.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
TEXTS = ("shop", "order_id")
TICK = timedelta(microseconds=1)

KINDS = {
    "earned": "Einkauf",
    "tier_bonus": "Stufenbonus",
    "campaign": "Aktion",
    "activity": "Aktivität",
    "clawed_back": "Rückgabe",
    "covered": "Ausgleich",
    "written_off": "Ausgebucht",
    "expired": "Verfallen",
    "captured": "Eingelöst",
    "restored": "Gutgeschrieben",
    "adjusted": "Korrektur",
    "reversed": "Storno",
    "transferred": "Übertragung",
}
SUMS = (
    ("opening", "Anfangsstand", 1),
    ("earned", "Gesammelt", 1),
    ("spent", "Eingelöst", -1),
    ("expired", "Verfallen", -1),
    ("corrected", "Korrekturen", 1),
    ("closing", "Endstand", 1),
)
STYLE = """
@page{size:A4;margin:18mm}
body{font:11pt/1.45 system-ui,sans-serif;color:#111;background:#fff}
body{max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}
p{margin:.3rem 0}
table{border-collapse:collapse;width:100%;margin-top:1.5rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem .35rem 0;border-bottom:1px solid #ccc}
thead{display:table-header-group}
tr{break-inside:avoid}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.d{white-space:nowrap}
.sums{max-width:24rem}
.sums tr:last-child,.sums tr:last-child td{font-weight:600;border-top:2px solid #111}
.soft{color:#555}
@media print{body{margin:0;max-width:none;padding:0}}
"""


def csv_answer(found: Statement) -> Response:
    """The lines as CSV (RFC 4180), between a line with the opening and one with the closing balance."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    sums = found.sums
    edge = {"occurred_at": _utc(found.starts_at), "kind": "opening", "balance": sums.opening}
    writer.writerow(edge)
    for line in found.entries:
        row = {name: getattr(line, name) for name in COLUMNS}
        row |= {name: _text(row[name]) for name in TEXTS}
        row["occurred_at"] = _utc(line.occurred_at)
        row["expires_at"] = _utc(line.expires_at) if line.expires_at else ""
        writer.writerow(row)
    writer.writerow({"occurred_at": _utc(found.as_of), "kind": "closing", "balance": sums.closing})
    return Response(
        out.getvalue(),
        media_type="text/csv",
        headers={"Content-Disposition": f"attachment; {_file(found, 'csv')}"},
    )


def html_answer(found: Statement, program: Program) -> Response:
    """The page: self-contained, without anything to run or to fetch."""
    return Response(
        page(found, program),
        media_type="text/html",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def page(found: Statement, program: Program) -> str:
    """Lay the year out to be read and printed."""
    zone = program.zone
    last = _day(found.as_of - TICK, zone)
    title = f"Punkteauszug {found.year}"
    sums = "".join(
        f"<tr><td>{name}</td><td class=n>{_signed(sign * getattr(found.sums, key), key)}</td></tr>"
        for key, name, sign in SUMS
    )
    lines = "".join(_row(line, zone) for line in found.entries)
    none = "" if found.entries else "<p class=soft>Keine Bewegungen in diesem Jahr.</p>"
    money = found.sums.money
    worth = (
        f"<p class=soft>Ein Punkt entspricht {_german(money.point_value)} {escape(money.currency)};"
        f" der Endstand {_german(money.closing)} {escape(money.currency)}.</p>"
        if money
        else ""
    )
    return (
        f"<!doctype html><html lang=de><head><meta charset=utf-8><title>{title}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style></head><body>"
        f"<h1>{title}</h1><p>{escape(program.name)}</p>"
        f"<p>Kundennummer {escape(found.customer_id)}</p>"
        f"<p class=soft>01.01.{found.year} bis {last}; Zeitzone {escape(found.timezone)}.</p>"
        f"<table class=sums><tbody>{sums}</tbody></table>{worth}"
        "<table><thead><tr><th scope=col>Datum</th><th scope=col>Vorgang</th>"
        "<th scope=col>Erläuterung</th><th scope=col class=n>Punkte</th>"
        f"<th scope=col class=n>Stand</th></tr></thead><tbody>{lines}</tbody></table>{none}"
        "<p class=soft>Punkte zählen bis zum Ende ihres letzten gültigen Tages.</p></body></html>"
    )


def _row(line: StatementEntry, zone: ZoneInfo) -> str:
    # What is lost at midnight was good through the day before: that is the date people know.
    at = line.occurred_at - TICK if line.kind == "expired" else line.occurred_at
    order = f" · Bestellung {escape(line.order_id)}" if line.order_id else ""
    return (
        f"<tr><td class=d>{_day(at, zone)}</td><td>{KINDS.get(line.kind, escape(line.kind))}</td>"
        f"<td>{escape(line.explanation_de)}<span class=soft>{order}</span></td>"
        f"<td class=n>{_signed(line.points)}</td><td class=n>{_plain(line.balance)}</td></tr>"
    )


def _day(instant: datetime, zone: ZoneInfo) -> str:
    day: date = clock.local_date(instant, zone)
    return f"{day:%d.%m.%Y}"


def _plain(points: int) -> str:
    return ("−" if points < 0 else "") + number(abs(points)).de


def _signed(points: int, key: str = "") -> str:
    """Show a change with its sign; the balances at both ends only where they are below zero."""
    if key in {"opening", "closing"} or points <= 0:
        return _plain(points)
    return "+" + _plain(points)


def _german(amount: str) -> str:
    whole, _, rest = amount.lstrip("-").partition(".")
    sign = "−" if amount.startswith("-") else ""
    return sign + number(int(whole)).de + (f",{rest}" if rest else "")


def _utc(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _text(value: str | None) -> str:
    text = value or ""
    return f"'{text}" if text.startswith(FORMULA) else text


def _file(found: Statement, suffix: str) -> str:
    name = f"statement-{found.customer_id}-{found.year}.{suffix}"
    return f"filename*=UTF-8''{quote(name, safe='')}"
