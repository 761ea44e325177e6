"""Corrections from a CSV file: read in full before anything is sent, then sent one by one, each once."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from shared.errors import UsageError

NEEDED = ("customer_id", "points", "reason_code", "reason")
OPTIONAL = ("expires_at", "key")
DELIMITERS = ",;\t"
KEY_CHARS_MAX = 255
POINTS_DIGITS_MAX = 10
LINES_MAX = 100_000
FILE_BYTES_MAX = 32 * 1024 * 1024
SECONDS_MAX = 30
TRIES_MAX = 5
PAUSE_SECONDS = 0.5

Outcome = Literal["booked", "waiting", "already", "refused", "not sent", "possible"]


@dataclass(frozen=True, slots=True)
class Row:
    """One correction; ``line`` is its place in the file, ``key`` names it for ever."""

    line: int
    customer_id: str
    points: int
    reason_code: str
    reason: str
    expires_at: str | None
    key: str


@dataclass(slots=True)
class Done:
    """What became of a row: entry or adjustment it led to, or why not."""

    row: Row
    outcome: Outcome
    id: str | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """Why a line cannot be sent."""

    line: int
    what: str


class MistakesError(UsageError):
    """The file is not fit to be sent; nothing was."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        shown = "\n".join(f"  line {mistake.line}: {mistake.what}" for mistake in mistakes)
        super().__init__(f"nothing was sent, for the file has mistakes:\n{shown}")
        self.mistakes = mistakes


def read(content: bytes, batch: str | None) -> list[Row]:
    """All rows of a file. Raises MistakesError with every mistake in it.

    ``batch`` names the rows that have no key of their own, by what they say: the same row in the same batch is
    booked once. A row that stands twice in the file is meant twice.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise MistakesError([Mistake(line, "is not UTF-8; save the file as CSV UTF-8")]) from None
    head = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=head.count)
    # Strict: a stray quotation mark would make one row of many.
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    _check_head(lines.fieldnames or (), batch)
    mistakes: list[Mistake] = []
    rows: list[Row] = []
    twins: Counter[str] = Counter()
    try:
        for values in lines:
            if len(rows) + len(mistakes) >= LINES_MAX:
                mistakes.append(Mistake(lines.line_num, f"a file has at most {LINES_MAX:,} lines"))
                break
            row = _row(lines.line_num, values, batch, twins)
            if isinstance(row, Row):
                rows.append(row)
            else:
                mistakes.append(row)
    except csv.Error as error:
        mistakes.append(Mistake(lines.line_num + 1, f"is no CSV: {error}"))
    mistakes += _repeated(rows)
    if mistakes:
        raise MistakesError(sorted(mistakes, key=lambda mistake: mistake.line))
    if not rows:
        raise MistakesError([Mistake(2, "there is no line below the column names")])
    return rows


def _check_head(names: Sequence[str], batch: str | None) -> None:
    unknown = [name for name in names if name not in NEEDED + OPTIONAL]
    missing = [name for name in NEEDED if name not in names]
    twice = [name for name, count in Counter(names).items() if count > 1]
    mistakes = [f"the column {name} is missing" for name in missing]
    mistakes += [f"the column {name} is unknown" for name in unknown]
    mistakes += [f"the column {name} is there twice" for name in twice]
    if "key" not in names and not batch:
        mistakes.append(
            "there is no column key, which keeps a line from being booked twice: add one, or name this file's"
            " corrections with --batch"
        )
    if mistakes:
        allowed = f"columns: {', '.join(NEEDED)}; optional: {', '.join(OPTIONAL)}"
        raise MistakesError([Mistake(1, what) for what in [*mistakes, allowed]])


def _row(
    line: int, values: Mapping[str | None, Any], batch: str | None, twins: Counter[str]
) -> Row | Mistake:
    """The row of a line, or what is wrong with it first; the API checks what it says."""
    if None in values:
        return Mistake(line, "has more values than there are columns")
    texts = {name: (value or "").strip() for name, value in values.items() if name is not None}
    key = texts.get("key") or (_key_of(texts, batch, twins) if batch else "")
    wrong = _wrong(texts, key)
    if wrong is not None:
        return Mistake(line, wrong)
    return Row(
        line=line,
        customer_id=texts["customer_id"],
        points=int(texts["points"]),
        reason_code=texts["reason_code"],
        reason=texts["reason"],
        expires_at=texts.get("expires_at") or None,
        key=key,
    )


def _wrong(texts: Mapping[str, str], key: str) -> str | None:
    digits = texts["points"].removeprefix("-").removeprefix("+")
    empty = next((name for name in NEEDED if not texts[name]), None)
    wrong = None
    if empty is not None:
        wrong = f"{empty} is empty"
    elif not (digits.isascii() and digits.isdigit() and len(digits) <= POINTS_DIGITS_MAX):
        wrong = f"points: {texts['points']!r} is not a whole number such as 100 or -20"
    elif not int(digits):
        wrong = "points: 0 corrects nothing"
    elif not key:
        wrong = "key is empty; give it one, or name the batch with --batch"
    elif len(key) > KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        wrong = f"key: at most {KEY_CHARS_MAX} printable ASCII characters"
    return wrong


def _key_of(texts: Mapping[str, str], batch: str, twins: Counter[str]) -> str:
    said = json.dumps([texts.get(name, "") for name in (*NEEDED, "expires_at")])
    twins[said] += 1
    digest = sha256(json.dumps([batch, said, twins[said]]).encode()).hexdigest()
    return f"csv-{digest[:40]}"


def _repeated(rows: Sequence[Row]) -> Iterator[Mistake]:
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        places[row.customer_id, row.key].append(row.line)
    for (_, key), lines in places.items():
        if len(lines) > 1:
            yield Mistake(lines[1], f"key {key} is that of line {lines[0]} too")


class Sender:
    """Sends rows to the points API over one connection; what may have been done is asked again with its key."""

    def __init__(self, url: str, api_key: str, *, dry_run: bool) -> None:
        self._url = urlsplit(url)
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._dry_run = dry_run
        self._link: HTTPConnection | None = None

    def close(self) -> None:
        """Give the connection back."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def send(self, row: Row) -> Done:
        """Book one row, or only try it. Raises UsageError when the API stays away or refuses the key."""
        why = ""
        for tries in range(TRIES_MAX):
            if tries:
                time.sleep(PAUSE_SECONDS * 2 ** (tries - 1))
            try:
                status, headers, answer = self._post(row)
            except (OSError, HTTPException) as error:
                self.close()
                why = f"the points API does not answer ({error or type(error).__name__})"
                continue
            code = answer.get("code")
            if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise UsageError(f"{answer.get('detail')} ({code})")
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code == "idempotency-key-in-use":
                why = f"{answer.get('detail')} ({code})"
                continue
            return self._done(row, status, headers, answer)
        raise UsageError(why)

    def available(self, customer_id: str) -> int:
        """What a customer could spend now."""
        link = self._connect()
        link.request("GET", self._path(customer_id, "balance"), headers=self._headers)
        return int(json.load(link.getresponse())["available"])

    def _post(self, row: Row) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        link = self._connect()
        body = {
            "points": row.points,
            "reason_code": row.reason_code,
            "reason": row.reason,
            "expires_at": row.expires_at,
        }
        path = self._path(row.customer_id, "adjustments") + (
            "?dry_run=true" if self._dry_run else ""
        )
        key = row.key.replace("\\", "\\\\").replace('"', '\\"')
        headers = {**self._headers, "Idempotency-Key": f'"{key}"'}
        link.request("POST", path, json.dumps(body).encode(), headers)
        answer = link.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, found

    def _done(
        self, row: Row, status: int, headers: Mapping[str, str], answer: Mapping[str, Any]
    ) -> Done:
        if status >= HTTPStatus.BAD_REQUEST:
            fields = "; ".join(f"{e['field']}: {e['message']}" for e in answer.get("errors", ()))
            return Done(row, "refused", None, answer.get("code"), fields or answer.get("detail"))
        outcome: Outcome
        if "idempotency-replayed" in headers:
            outcome = "already"
        elif self._dry_run:
            outcome = "possible"
        else:
            outcome = "waiting" if "state" in answer else "booked"
        needs = "needs a second person" if "state" in answer else None
        return Done(row, outcome, None if self._dry_run else answer["id"], None, needs)

    def _path(self, customer_id: str, what: str) -> str:
        return f"{self._url.path}/v1/customers/{quote(customer_id, safe='')}/{what}"

    def _connect(self) -> HTTPConnection:
        if self._link is None:
            kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
            self._link = kind(self._url.netloc, timeout=SECONDS_MAX)
        return self._link


def too_much(done: Sequence[Done], sender: Sender) -> None:
    """Mark what a dry run line by line cannot see: debits that are possible alone, but not after one another."""
    by_customer: dict[str, list[Done]] = defaultdict(list)
    for one in done:
        if one.outcome == "possible" and not one.detail:
            by_customer[one.row.customer_id].append(one)
    for customer_id, several in by_customer.items():
        if len(several) < 2 or all(one.row.points > 0 for one in several):  # noqa: PLR2004 - alone, or with others
            continue
        left = sender.available(customer_id)
        for one in several:
            if left + one.row.points < 0:
                one.outcome, one.code = "refused", "insufficient-points"
                one.detail = f"after the lines before it, {left} points are left"
            else:
                left += one.row.points
