"""From the producer's send to the voucher readable at the rewards API, open loop at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from benchmarks.load import ROOT, Sent, small_event
from benchmarks.meters import Machine, Noise, tree_cpu
from shared.contracts import points, purchases, rewards, tiers
from shared.contracts.catalogue import PARTITIONS

PROGRAM = Path(__file__).with_name("latency.yaml")
PORT_BASE = 19300
# Sooner than it has ever been; what is there at the first look counts as that late.
FIRST_POLL_SECONDS = 0.025
POLL_SECONDS = 0.003
# Who is late already is asked for less often: the asking must not make it later.
LATE_SECONDS, LATE_POLL_SECONDS = 0.1, 0.02
# What has not come by then is counted as lost, and fails the bench.
PATIENCE_SECONDS = 20.0
WARM_UP_SECONDS = 5.0
SETTLE_SECONDS = 1.0
TOPICS = (purchases.TOPIC, points.TOPIC, tiers.TOPIC, rewards.TOPIC)


@dataclass(frozen=True)
class Plan:
    """``sample``: every n-th purchase is watched at the API; all of them are on the output topic."""

    rate: int = 200
    seconds: float = 30.0
    sample: int = 32


@dataclass
class Percentiles:
    """Milliseconds since the intended moment of sending."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Of at least two values."""
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        p50, p90, p99 = (round(cuts[at - 1] * 1000, 1) for at in (50, 90, 99))
        return cls(len(seconds), p50, p90, p99, round(max(seconds) * 1000, 1))


@dataclass
class Outcome:
    """What one latency run measured."""

    plan: Plan
    api: Percentiles
    topic: Percentiles
    lost: int
    hops: dict[str, Percentiles]
    polls: int
    send_delay_p99_ms: float
    cpu_cores: dict[str, float]
    noise: Noise


@dataclass
class Watch:
    """Times by purchase number, on one clock."""

    intended: dict[int, float] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)
    at_api: dict[int, float] = field(default_factory=dict)
    polls: int = 0


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[dict[str, Any]]:
    """A whole local stack of its own, wiped afterwards."""
    treue = [sys.executable, "-m", "shared.cli.main"]
    down = [*treue, "down", "--dir", str(folder), "--wipe"]
    up = [*treue, "up", "--dir", str(folder), "--port-base", str(PORT_BASE), "--detach"]
    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL}
    if folder.exists():
        subprocess.run(down, check=False, **quiet)  # type: ignore[call-overload]
    try:
        subprocess.run([*up, "--program", str(PROGRAM)], check=True, **quiet)  # type: ignore[call-overload]
        yield json.loads((folder / "stack.json").read_text())
    finally:
        subprocess.run(down, check=False, **quiet)  # type: ignore[call-overload]


async def measure(stack_json: dict[str, Any], plan: Plan) -> Outcome:
    """Run the plan against a running stack."""
    run = f"{int(time.time()):x}"
    await _drive(stack_json, Plan(plan.rate, WARM_UP_SECONDS, plan.sample), f"w{run}")
    # The supervisor is everyone's parent: its tree would count all of them again.
    pids = {name: pid for name, pid in stack_json["pids"].items() if name != "supervisor"}
    pids["bench"] = os.getpid()
    machine = Machine.read()
    before = {name: tree_cpu(pid) for name, pid in pids.items()}
    offset = time.time() - time.perf_counter()
    watch = await _drive(stack_json, plan, f"m{run}")
    now = Machine.read()
    used = {name: tree_cpu(pid) - before[name] for name, pid in pids.items()}
    noise = Noise.between(machine, now, sum(used.values()))
    api = [at - watch.intended[n] for n, at in watch.at_api.items()]
    made = await _made(stack_json["kafka"], f"m{run}")
    topic = [
        at / 1000 - offset - watch.intended[int(customer.partition("-")[2])]
        for customer, at in made[rewards.TOPIC].items()
    ]
    delays = [at - watch.intended[n] for n, at in watch.sent.items()]
    expected = len([n for n in watch.intended if n % plan.sample == 0])
    return Outcome(
        plan,
        Percentiles.of(api),
        Percentiles.of(topic),
        expected - len(api) + len(watch.intended) - len(topic),
        _hops(made),
        watch.polls,
        Percentiles.of(delays).p99,
        {name: round(seconds / (now.at - machine.at), 3) for name, seconds in used.items()},
        noise,
    )


async def _made(bootstrap: str, run: str) -> dict[str, dict[str, int]]:
    """For each topic, when a customer's first record was made, in ms since 1970.

    Read afterwards from the topics themselves, so that it costs the run nothing.
    """
    made: dict[str, dict[str, int]] = {topic: {} for topic in TOPICS}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for topic in TOPICS for number in range(PARTITIONS)]
        consumer.assign(parts)
        end = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < end[part] for part in parts]):
            for part, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    customer = (record.key or b"").decode()
                    if customer.startswith(run):
                        made[part.topic].setdefault(customer, record.timestamp)
    finally:
        await consumer.stop()
    return made


def _hops(made: dict[str, dict[str, int]]) -> dict[str, Percentiles]:
    """How long each service took."""
    return {
        f"{before} → {after}": Percentiles.of(
            [(made[after][c] - at) / 1000 for c, at in made[before].items() if c in made[after]]
        )
        for before, after in itertools.pairwise(TOPICS)
    }


async def _drive(stack_json: dict[str, Any], plan: Plan, run: str) -> Watch:
    watch = Watch()
    producer = AIOKafkaProducer(
        bootstrap_servers=stack_json["kafka"], acks="all", enable_idempotence=True, linger_ms=0
    )
    await producer.start()
    headers = {"Authorization": f"Bearer {stack_json['api_key']}"}
    try:
        async with aiohttp.ClientSession(stack_json["rewards_url"], headers=headers) as session:
            await _send_all(producer, session, plan, run, watch)
    finally:
        await producer.stop()
    # Those that nobody watches at the API have come when their vouchers are told; what has not by then is lost.
    await asyncio.sleep(SETTLE_SECONDS)
    return watch


async def _send_all(
    producer: AIOKafkaProducer, session: aiohttp.ClientSession, plan: Plan, run: str, watch: Watch
) -> None:
    rng = random.Random(run)
    begin = time.perf_counter() + 0.1
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(plan.rate * plan.seconds)):
            moment = begin + number / plan.rate
            customer = f"{run}-{number}"
            event = small_event(customer, customer, datetime.now(UTC), rng)
            if (wait := moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            watch.intended[number] = moment
            tasks.create_task(_send(producer, event, number, watch))
            if number % plan.sample == 0:
                tasks.create_task(_poll(session, customer, number, watch))


async def _send(producer: AIOKafkaProducer, event: Sent, number: int, watch: Watch) -> None:
    watch.sent[number] = time.perf_counter()
    await producer.send(purchases.TOPIC, event.value, key=event.key, partition=event.partition)


async def _poll(session: aiohttp.ClientSession, customer: str, number: int, watch: Watch) -> None:
    moment = watch.intended[number]
    await asyncio.sleep(max(0.0, moment + FIRST_POLL_SECONDS - time.perf_counter()))
    while time.perf_counter() < moment + PATIENCE_SECONDS:
        asked = time.perf_counter()
        watch.polls += 1
        async with session.get(f"/v1/customers/{customer}/vouchers") as response:
            body = await response.json()
            if response.status == 200 and body["data"]:
                watch.at_api[number] = time.perf_counter()
                return
            if response.status not in {200, 404}:
                raise RuntimeError(f"the rewards API answers {response.status}: {body}")
        pause = POLL_SECONDS if asked < moment + LATE_SECONDS else LATE_POLL_SECONDS
        await asyncio.sleep(max(0.0, asked + pause - time.perf_counter()))
