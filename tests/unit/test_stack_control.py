from __future__ import annotations

import base64
import json
import os
import socket
import stat
import sys
import uuid
from pathlib import Path

import pytest

from shared.cli.common import load_stack
from shared.errors import UsageError
from shared.stack import control, credentials, processes, report
from shared.stack.files import read_json, tail, write_json
from shared.stack.layout import HOST, Layout, Ports, resolve_dir
from shared.stack.local import LocalStack, Plan


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "stack")
    made.create()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_dir_is_given_or_from_the_environment_or_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TREUE_DIR", raising=False)
    assert resolve_dir(None).parts[-2:] == (".treue", "stack")
    monkeypatch.setenv("TREUE_DIR", str(tmp_path / "a"))
    assert resolve_dir(None) == tmp_path / "a"
    assert resolve_dir(tmp_path / "b") == tmp_path / "b"


def test_ports_are_counted_from_the_base() -> None:
    named = Ports(8100).named()
    assert named["points-api"] == 8101
    assert named["rewards-worker"] == 8113
    assert (named["postgres"], named["kafka"], named["kafka-controller"]) == (8132, 8192, 8193)
    assert len(set(named.values())) == len(named)
    assert "tiers-worker" not in Ports(8100).named(workers=False)
    for base in (-1, 65500):
        with pytest.raises(UsageError, match="--port-base"):
            Ports(base)


def test_secrets_are_made_once_and_private(layout: Layout) -> None:
    first = credentials.ensure(layout)
    secret = layout.secret.read_text()
    assert credentials.ensure(layout) == first
    assert layout.secret.read_text() == secret
    assert len(bytes.fromhex(secret.strip())) == 32
    assert first.api_key.startswith("tk_")
    for path in (layout.credentials_json, layout.keys_json, layout.secret):
        assert mode(path) == 0o600
    for key in (first.api_key, first.second_key):
        assert key not in layout.keys_json.read_text()
    assert first.api_key != first.second_key
    assert credentials.ensure(Layout(layout.dir)).passwords != {}


def test_kafka_s_cluster_id_is_never_taken_for_an_option() -> None:
    dashed = uuid.UUID(int=0b111110 << 122)
    assert credentials.cluster_id(dashed) == "A" + "A" * 21
    plain = uuid.UUID("6c1f6a0e-6d7b-4a55-9a3b-7d0a5f1d2c11")
    decoded = base64.urlsafe_b64decode(credentials.cluster_id(plain) + "==")
    assert decoded == plain.bytes


def test_only_one_holds_the_lock(layout: Layout) -> None:
    with control.locked(layout) as first:
        assert first is not None
        with control.locked(layout) as second:
            assert second is None
    with control.locked(layout) as third:
        assert third is not None


def test_what_was_told_is_remembered(layout: Layout, tmp_path: Path) -> None:
    assert control.settle_plan(layout, None, None, workers=True).ports.base == 8100
    file = tmp_path / "mine.yaml"
    file.write_text("program: mine\n")
    told = control.settle_plan(layout, 9300, file, workers=True)
    again = control.settle_plan(layout, None, None, workers=False)
    assert (again.ports.base, again.program) == (9300, told.program)
    assert again.program.read_text() == "program: mine\n"
    assert not again.workers


def test_a_taken_port_is_named_with_its_holder(layout: Layout) -> None:
    base = processes.free_ports(1)[0]
    with socket.socket() as other:
        other.bind((HOST, base + 92))
        other.listen()
        taken = control.taken_ports(Plan(layout, Ports(base), Path("p.yaml")))
    assert len(taken) == 1
    assert f"port {base + 92} (kafka) is taken by" in taken[0]
    assert f"(pid {os.getpid()})" in taken[0]


def test_stack_json_has_the_contract_s_keys(layout: Layout) -> None:
    stack = LocalStack(Plan(layout, Ports(8100), Path("p.yaml")), lambda *_, **__: None)
    told = stack.stack()
    assert told["kafka"] == "127.0.0.1:8192"
    assert told["points_url"] == "http://127.0.0.1:8101"
    assert told["rewards_url"] == "http://127.0.0.1:8103"
    assert set(told["postgres"]) == {"points", "tiers", "rewards"}
    assert told["postgres"]["tiers"].startswith("postgresql://tiers:")
    assert told["postgres"]["tiers"].endswith("@127.0.0.1:8132/tiers")
    assert told["pids"] == {"supervisor": os.getpid()}
    assert {"tiers_url", "api_key", "version", "worker_urls"} <= set(told)


def test_without_a_stack_commands_say_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no stack is up in .*treue up"):
        load_stack(tmp_path)


def test_wiping_leaves_what_is_not_ours(layout: Layout) -> None:
    credentials.ensure(layout)
    layout.versions.mkdir()
    (layout.versions / "20270101T000000Z-46b290243e15.yaml").write_text("")
    (layout.dir / "notes.txt").write_text("mine")
    control.wipe(layout)
    assert [path.name for path in layout.dir.iterdir()] == ["notes.txt"]
    (layout.dir / "notes.txt").unlink()
    control.wipe(layout)
    assert not layout.dir.exists()


def test_a_json_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
    assert mode(path) == 0o600
    path.write_text('{"a": ')
    assert read_json(path) is None
    assert read_json(tmp_path / "none") is None


def test_tail_reads_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert tail(path, 20)[-1] == "line 999"
    assert len(tail(path, 20)) <= 4
    assert tail(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["all is well"], ""),
        (['{"level": "info", "event": "ERROR is but a word here"}'], ""),
        (
            [
                '{"level": "error", "event": "job failed", "error": "no disk", "timestamp": "T"}',
                "ok",
            ],
            "T job failed no disk",
        ),
        (["Traceback (most recent call last):", "  x = 1", "ValueError: bad"], "ValueError: bad"),
        (["2026 [1] a@b FATAL:  no room", "fine"], "2026 [1] a@b FATAL:  no room"),
        (["2026 [1] a@b FATAL:  the database system is starting up"], ""),
        (['{"level": "error", "event": '], ""),
    ],
)
def test_the_last_error_of_a_log(tmp_path: Path, lines: list[str], expected: str) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(lines) + "\n")
    assert report.last_error(log) == expected


def test_processes_are_reported_as_they_are_not_as_they_were(layout: Layout) -> None:
    begun = processes.started(os.getpid())
    alive = {"pid": os.getpid(), "started": begun, "state": "ready"}
    gone = {"pid": os.getpid(), "started": 1.0, "state": "ready"}
    write_json(
        layout.state_json,
        {
            "supervisor": gone,
            "processes": [{"name": "kafka", **alive}, {"name": "postgres", **gone, "restarts": 2}],
        },
    )
    states = {one.name: one.state for one in report.of(layout)}
    assert states == {"supervisor": "dead", "kafka": "ready", "postgres": "dead"}
    assert report.of(Layout(layout.dir / "none")) == []


def test_leftovers_are_ended_and_counted(layout: Layout) -> None:
    spec = processes.Spec(
        name="points-worker",
        argv=(sys.executable, "-c", "import time; time.sleep(60)"),
        log=layout.log("points-worker"),
        cwd=layout.run,
    )
    left = processes.spawn(spec, layout.dir)
    layout.stack_json.write_text(json.dumps({}))
    assert control.clear_leftovers(layout) == 1
    assert left.wait(5) != 0
    assert not layout.stack_json.exists()
    assert control.clear_leftovers(layout) == 0
