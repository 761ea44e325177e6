"""``treue adjust`` as people run it, against a served API and a real database."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared import clock
from shared.program import Program, load
from shared.stack import probes, processes
from tests.fixtures.http_probe import write_keys
from tests.fixtures.live import until
from tests.fixtures.servers import ROOT
from tests.integration.test_points_api import Shop

pytestmark = pytest.mark.servers

HEAD = "customer_id,points,reason_code,reason,expires_at,key\n"
NOWHERE = "127.0.0.1:9"


class Office:
    """A points API as a process, and people with lists."""

    def __init__(self, dsn: str, folder: Path, rules: Path) -> None:
        self.dsn, self.folder, self.rules = dsn, folder, rules
        write_keys(folder / "keys.json", [("office", "secret", ["points:read", "points:write"])])
        (self.port,) = processes.free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        self.point_at(f"http://127.0.0.1:{self.port}")

    def point_at(self, url: str) -> None:
        stack = {"points_url": url, "api_key": "secret"}
        (self.folder / "stack.json").write_text(json.dumps(stack))

    def open(self) -> None:
        settings = {
            "DATABASE": self.dsn,
            "KAFKA": NOWHERE,
            "PROGRAM": str(self.rules),
            "KEYS_FILE": str(self.folder / "keys.json"),
            "PORT": str(self.port),
            "WORKER_PORT": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.points", "api"],
            env=os.environ | {f"TREUE_POINTS_{name}": value for name, value in settings.items()},
        )
        until(lambda: probes.http(self.port, "/livez"), 30, "the API is up")

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def adjust(self, text: str, *options: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli.main", "adjust", "-", *options],
            env={**os.environ, "TREUE_DIR": str(self.folder), "COLUMNS": "200"},
            input=text,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def report(self, text: str, *options: str, expect: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.adjust(text, "--json", *options, expect=expect).stdout
        )
        return found

    def sums(self) -> dict[str, int]:
        async def ask() -> dict[str, int]:
            conn = await asyncpg.connect(self.dsn)
            rows = await conn.fetch("SELECT customer_id, balance FROM accounts ORDER BY 1")
            await conn.close()
            return {row["customer_id"]: row["balance"] for row in rows}

        return asyncio.run(ask())


def with_shop(dsn: str, program: Program, visit: Callable[[Shop], Awaitable[None]]) -> None:
    async def go() -> None:
        conn = await asyncpg.connect(dsn)
        shop = Shop(conn, program)
        shop.now = clock.now()
        await visit(shop)
        await conn.close()

    asyncio.run(go())


@pytest.fixture
def office(points_db: str, tmp_path: Path) -> Iterator[Office]:
    rules = tmp_path / "program.yaml"
    demo = (ROOT / "programs" / "demo.yaml").read_text(encoding="utf-8")
    rules.write_text(demo + "corrections: {limit: 1000}\n", encoding="utf-8")

    async def buy(shop: Shop) -> None:
        for customer in ("anna", "bert"):
            await shop.buys(customer, f"o-{customer}", "100.00", clock.now() - timedelta(days=1))

    with_shop(points_db, load(rules), buy)
    found = Office(points_db, tmp_path, rules)
    found.open()
    yield found
    found.close()


LIST = HEAD + (
    "anna,50,goodwill,parcel late,,k1\n"
    "bert,-30,error,counted twice,,k2\n"
    "nobody,5,goodwill,x,,k3\n"
    "bert,-90,error,too much,,k4\n"
    "anna,1001,goodwill,wedding,,k5\n"
    "anna,5,goodwill,x,yesterday,k6\n"
)


def test_every_line_gets_its_answer_and_is_booked_once(office: Office) -> None:
    report = office.report(LIST, expect=1)
    assert [(line["line"], line["outcome"], line["code"]) for line in report["lines"]] == [
        (2, "booked", None),
        (3, "booked", None),
        (4, "refused", "customer-not-found"),
        (5, "refused", "insufficient-points"),
        (6, "waiting", None),
        (7, "refused", "validation-failed"),
    ]
    assert office.sums() == {"anna": 150, "bert": 70}
    again = office.report(LIST, expect=1)
    assert again["counts"] == {"already": 3, "refused": 3}
    assert office.sums() == {"anna": 150, "bert": 70}


def test_people_read_what_became_of_it(office: Office) -> None:
    done = office.adjust(LIST, expect=1)
    assert done.stdout == (
        "6 lines: 2 booked, 1 waiting for a second person, 3 refused; +20 points.\n"
    )
    assert "line 5: bert -90: 90 points cannot be taken: 70 are available." in done.stderr


def test_a_dry_run_says_the_same_and_changes_nothing(office: Office) -> None:
    report = office.report(LIST, "--dry-run", expect=1)
    assert [(line["outcome"], line["code"]) for line in report["lines"]] == [
        ("possible", None),
        ("possible", None),
        ("refused", "customer-not-found"),
        ("refused", "insufficient-points"),
        ("possible", None),
        ("refused", "validation-failed"),
    ]
    assert "after the lines before it, 70 points are left" in report["lines"][3]["detail"]
    assert office.sums() == {"anna": 100, "bert": 100}
    done = office.adjust(LIST, "--dry-run", expect=1)
    assert done.stdout.endswith("Nothing was changed.\n")


def test_a_file_with_a_mistake_is_not_sent_at_all(office: Office) -> None:
    done = office.adjust(LIST + "anna,many,goodwill,x,,k7\n", expect=1)
    assert "line 8: points: 'many' is not a whole number such as 100 or -20" in done.stderr
    assert office.sums() == {"anna": 100, "bert": 100}
    report = office.report("customer_id,points\n", expect=1)
    assert report["sent"] is False


def test_stopped_in_the_middle_it_goes_on_where_it_was(office: Office) -> None:
    """The API dies while a list is sent: what was booked stays booked, once."""
    lines = HEAD + "".join(f"anna,1,goodwill,x,,key-{number}\n" for number in range(400))
    with subprocess.Popen(
        [sys.executable, "-m", "shared.cli.main", "adjust", "-", "--json"],
        env={**os.environ, "TREUE_DIR": str(office.folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None
        running.stdin.write(lines)
        running.stdin.close()
        until(lambda: office.sums()["anna"] > 120, 60, "some lines are booked")
        assert office.process is not None
        office.process.kill()
        office.process.wait(20)
        assert running.stdout is not None
        stopped = json.loads(running.stdout.read())
    assert running.returncode == 1
    assert stopped["stopped"]
    assert stopped["counts"]["not sent"] > 0
    office.open()
    report = office.report(lines)
    assert report["counts"].keys() <= {"booked", "already"}
    assert office.sums()["anna"] == 500


def test_without_an_api_it_says_so(office: Office) -> None:
    office.point_at(f"http://{NOWHERE}")
    done = office.adjust(LIST, expect=1)
    assert "does not answer" in done.stderr
    assert "6 not sent" in done.stdout


def test_a_key_of_the_api_that_may_not_write_is_told(office: Office) -> None:
    stack = {"points_url": f"http://127.0.0.1:{office.port}", "api_key": "unknown"}
    (office.folder / "stack.json").write_text(json.dumps(stack))
    done = office.adjust(LIST, expect=1)
    assert "unauthorized" in done.stderr


def test_program_files_are_checked(office: Office) -> None:
    for file, code in ((office.rules, 0), (office.folder / "keys.json", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "shared.cli.main", "program", "check", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert str(file) in done.stdout + done.stderr
