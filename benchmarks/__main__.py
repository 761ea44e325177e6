"""`python -m benchmarks`: all contestants in one interleaved run, then the latency of the whole stack."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from benchmarks import latency, load, rebuild, report, rounds, rows, spending
from benchmarks.kafka import Topics, fill
from benchmarks.load import ROOT, Load
from benchmarks.meters import Patience
from benchmarks.oracle import Oracle
from benchmarks.rounds import TOTALS_TOPIC, Contestant, Floor, Naive, Ours, Result, Streams
from benchmarks.site import Site
from shared.contracts import purchases
from shared.stack import servers

FOLDER = ROOT / ".treue" / "bench"
CONTESTANTS: tuple[type[Contestant], ...] = (Ours, Naive, Floor, Streams)
# How long a run waits in all for other work on the machine to end, before it measures all the same.
PATIENCE_SECONDS = 120.0
KAFKA_PORT, POSTGRES_PORT = 19492, 19432

console = Console(width=140, highlight=False)


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    small: int
    real: int
    naive_seconds: float
    latency_seconds: float
    spending_seconds: float


FULL = Scale(
    rounds=3, small=200_000, real=2, naive_seconds=8.0, latency_seconds=30.0, spending_seconds=4.0
)
QUICK = Scale(
    rounds=2, small=80_000, real=1, naive_seconds=4.0, latency_seconds=12.0, spending_seconds=2.0
)


def main() -> int:
    """Parse, run, print, keep; 0 when everything due is met and every answer was right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds (under 4 minutes)"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 3)")
    parser.add_argument("--loads", default="small,real", help="which loads: small,real")
    parser.add_argument(
        "--only", default="", help="which contestants: " + ",".join(c.name for c in CONTESTANTS)
    )
    parser.add_argument("--no-latency", action="store_true", help="leave the latency bench out")
    parser.add_argument("--latency-only", action="store_true", help="nothing but the latency bench")
    parser.add_argument(
        "--spending-only", action="store_true", help="nothing but holds and refunds"
    )
    parser.add_argument(
        "--rebuild", type=int, metavar="N", help="nothing but a rebuild of N purchases"
    )
    given = parser.parse_args()
    if given.rebuild:
        return rebuild_bench(given.rebuild)
    scale = QUICK if given.quick else FULL
    chosen = [c for c in CONTESTANTS if not given.only or c.name in given.only.split(",")]
    loads: list[Load] = []
    results: list[Result] = []
    spent = None
    if not given.latency_only:
        spent = spending_bench(scale)
    if not given.latency_only and not given.spending_only:
        loads = _loads(scale, given.loads.split(","))
        if Streams in chosen:
            build_peers()
        number = given.rounds or scale.rounds
        Naive.seconds_max = scale.naive_seconds
        results = throughput(loads, chosen, number)
    without = given.no_latency or given.spending_only
    outcome = None if without else latency_bench(scale.latency_seconds)
    console.print()
    good = report.show(console, loads, results, outcome)
    if spent is not None:
        good &= report.show_spending(console, spent)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    report.keep(loads, results, outcome, spent, command)
    console.print(f"kept in {report.LATEST}")
    return 0 if good else 1


def _loads(scale: Scale, names: Sequence[str]) -> list[Load]:
    console.print("making the loads …")
    makers = {
        "small": lambda: load.small(scale.small),
        "real": lambda: load.real(FOLDER / "online-retail.jsonl", scale.real),
    }
    return [makers[name]() for name in names]


def build_peers() -> None:
    """Compile the Java contestant once; Maven skips what is up to date."""
    jar = rounds.PEERS / "peers-1.jar"
    sources = [rounds.PEERS.parent / "pom.xml", *(rounds.PEERS.parent / "src").rglob("*.java")]
    if jar.exists() and all(jar.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise SystemExit(
            "the Kafka Streams contestant needs Maven: install it, or leave it out with --only"
        )
    console.print("building benchmarks/peers …")
    subprocess.run([maven, "-q", "-B", "package"], cwd=rounds.PEERS.parent, check=True)


def rebuild_bench(count: int) -> int:
    """0 if every customer came out equal."""
    found = rebuild.measure(FOLDER / "rebuild", count)
    console.print(
        f"{found.purchases:,} purchases, {found.entries:,} entries: live in {found.live_seconds:.1f} s"
        f" ({found.entries / found.live_seconds:,.0f} entries/s), rebuilt and compared in"
        f" {found.rebuild_seconds:.1f} s ({found.entries / found.rebuild_seconds:,.0f} entries/s), peak MiB"
        f" {', '.join(f'{name} {mib:,.0f}' for name, mib in found.peak_mib.items())};"
        f" {'every customer is equal' if found.equal else 'CUSTOMERS DIFFER'}"
    )
    report.keep_rebuild(found, f"python -m benchmarks --rebuild {count}")
    return 0 if found.equal else 1


def spending_bench(scale: Scale) -> spending.Outcome:
    """On servers of its own, thrown away afterwards."""
    home = FOLDER / "servers"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    console.print("holds and refunds: starting PostgreSQL …")
    plan = spending.Plan(seconds=scale.spending_seconds, rounds=scale.rounds)
    try:
        with servers.start(home, KAFKA_PORT, POSTGRES_PORT) as running:
            site = Site(running, FOLDER)
            Patience(PATIENCE_SECONDS / 4).wait()

            async def run() -> spending.Outcome:
                await site.make_template()
                return await spending.measure(site, plan)

            return uvloop.run(run())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def throughput(
    loads: Sequence[Load], chosen: Sequence[type[Contestant]], number: int
) -> list[Result]:
    """All rounds on servers of their own, thrown away afterwards."""
    home = FOLDER / "servers"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    console.print("starting Kafka and PostgreSQL …")
    try:
        with servers.start(home, KAFKA_PORT, POSTGRES_PORT) as running:
            site = Site(running, FOLDER)
            return asyncio.run(_rounds(site, loads, chosen, number))
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(FOLDER / "streams-state", ignore_errors=True)
        for rows_file in FOLDER.glob("rows-*.pickle"):
            rows_file.unlink()


async def _rounds(
    site: Site, loads: Sequence[Load], chosen: Sequence[type[Contestant]], number: int
) -> list[Result]:
    results: list[Result] = []
    patience = Patience(PATIENCE_SECONDS)
    oracles = {each.name: Oracle(each) for each in loads}
    await site.make_template()
    async with Topics(site.bootstrap) as topics:
        for each in loads:
            await _prepare(site, each, Ours(site, each, oracles[each.name], topics))
        for turn in range(1, number + 1):
            # A B C D, then D C B A: nobody always comes after the same one.
            order = chosen if turn % 2 else chosen[::-1]
            for each in loads:
                await _fill(site, topics, each)
                for kind in order:
                    patience.wait()
                    contestant = kind(site, each, oracles[each.name], topics)
                    results.append(await rounds.measure(contestant, turn))
                    _tell(results[-1], number)
                for kind in order:
                    await site.drop(kind.name)
    return results


async def _prepare(site: Site, each: Load, ours: Ours) -> None:
    """A run that does not count: it warms the servers and leaves the rows for the floor."""
    console.print(f"{each.name}: warming up, and keeping the rows for (b) …")
    await _fill(site, ours.topics, each)
    result = await rounds.measure(ours, 0)
    if not result.right:
        raise SystemExit(
            f"{each.name}: the worker's totals differ from the domain's; nothing is measured"
        )
    floor = Floor(site, each, ours.oracle, ours.topics)
    await rows.dump(site.dsn(ours.name), site.bootstrap, floor.rows)
    await site.drop(ours.name)


async def _fill(site: Site, topics: Topics, each: Load) -> None:
    await topics.renew(TOTALS_TOPIC)
    await fill(site.bootstrap, purchases.TOPIC, each.records)


def _tell(result: Result, number: int) -> None:
    console.print(
        f"round {result.round}/{number} {result.load:5} {result.contestant:8}"
        f" {result.rate:>9,.0f} events/s{'' if result.right else '  WRONG TOTALS'}"
    )


def latency_bench(seconds: float) -> latency.Outcome:
    """On a whole local stack of its own."""
    console.print("latency: starting the whole stack …")
    with latency.stack(Path(FOLDER / "latency")) as found:
        Patience(PATIENCE_SECONDS / 2).wait()
        return uvloop.run(latency.measure(found, latency.Plan(seconds=seconds)))


if __name__ == "__main__":
    sys.exit(main())
