from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.stack import accounts, kafka
from shared.stack.kafka import Kafka

TREUE = (sys.executable, "-m", "shared.cli.main")
HEAVY = {"aiokafka", "asyncpg", "faust", "fastapi", "pydantic", "psutil", "babel"}


def treue(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TREUE, *arguments],
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_of_the_contract() -> None:
    told = treue("--help")
    assert told.returncode == 0, told.stderr
    for command in (
        *("up", "down", "status", "publish", "convert"),
        *("drain", "verify", "dead-letters", "demo"),
    ):
        assert f" {command} " in told.stdout


@pytest.mark.parametrize("command", ["up", "down", "status"])
def test_each_command_explains_itself(command: str) -> None:
    told = treue(command, "--help")
    assert told.returncode == 0
    assert "--dir" in told.stdout


def test_asking_for_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; from shared.cli.main import load; "
        "[load(name) for name in ('up', 'down', 'status')]; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert HEAVY & set(done.stdout.split()) == set()


def test_a_mistake_is_one_sentence_and_a_failure(tmp_path: Path) -> None:
    told = treue("up", "--dir", str(tmp_path), "--program", str(tmp_path / "none.yaml"))
    assert told.returncode == 1
    assert "none.yaml" in told.stderr
    assert "Traceback" not in told.stderr
    assert list(tmp_path.iterdir()) == []
    assert treue("fly").returncode == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = treue("up", "--dir", str(tmp_path / "file" / "stack"))
    assert told.returncode == 1
    assert "choose another --dir" in told.stderr


def test_status_of_nothing_is_no_success(tmp_path: Path) -> None:
    told = treue("status", TREUE_DIR=str(tmp_path))
    assert told.returncode == 1
    assert f"Nothing has been started in {tmp_path}" in told.stdout
    assert '"healthy": false' in treue("status", "--json", TREUE_DIR=str(tmp_path)).stdout


def test_without_java_or_maven_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UsageError, match=r"Java ≥ 17 .*: install it"):
        kafka.java()
    monkeypatch.setattr(kafka, "libs_dir", lambda: tmp_path / "libs")
    with pytest.raises(UsageError, match="install Maven"):
        kafka.jars()


def test_an_old_java_is_refused_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in {"java": "echo 'openjdk version \"11.0.2\"' >&2", "mvn": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(kafka, "libs_dir", lambda: tmp_path / "libs")
    with pytest.raises(UsageError, match=r"Java ≥ 17, but .* is 11"):
        kafka.jars()


def test_a_failed_fetch_tells_maven_s_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mvn").write_text("#!/bin/sh\necho '[ERROR] no route to host'; exit 1\n")
    (tmp_path / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    libs = tmp_path / "libs" / "4"
    monkeypatch.setattr(kafka, "libs_dir", lambda: libs)
    with pytest.raises(UsageError, match="no route to host"):
        kafka.jars()
    assert list(libs.parent.iterdir()) == []


def test_the_pom_pins_kafka_and_names_no_address() -> None:
    assert kafka.version() == "4.3.1"
    assert "http" not in kafka.POM.read_text()


def test_the_broker_is_told_to_stay_on_loopback_and_make_no_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "kafka"
    data.mkdir()
    (data / "meta.properties").write_text("")
    monkeypatch.setattr(kafka, "java", lambda: "java")
    broker = Kafka(
        data=data,
        config=tmp_path / "config",
        log=tmp_path / "log",
        run=tmp_path,
        port=9001,
        controller_port=9002,
        cluster="x",
    )
    broker.prepare()
    lines = broker.properties.read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9001,CONTROLLER://127.0.0.1:9002"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["group.initial.rebalance.delay.ms"] == "0"
    assert int(settings["group.min.session.timeout.ms"]) <= 6000
    assert int(settings["message.max.bytes"]) >= 6 * 1024 * 1024
    assert settings["log.dirs"] == str(data)


@pytest.mark.skipif(os.geteuid() == 0, reason="root lends an account")
def test_an_ordinary_user_needs_no_other_account(tmp_path: Path) -> None:
    assert accounts.choose(Path("/bin/true"), tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends accounts")
def test_root_lends_an_account_and_the_right_to_pass_only_where_it_must(tmp_path: Path) -> None:
    open_folder = Path("/var/tmp")  # noqa: S108 - a folder that everybody may enter
    plain = accounts.choose(Path("/bin/true"), open_folder)
    assert plain is not None
    assert plain.uid != 0
    assert not plain.may_traverse
    private = tmp_path / "private" / "stack"
    private.mkdir(parents=True)
    private.parent.chmod(0o700)
    lent = accounts.choose(Path("/bin/true"), private)
    assert lent is not None
    assert lent.may_traverse
    with pytest.raises(UsageError, match="choose a --dir"):
        accounts.choose(Path("/bin/no-such-program"), open_folder)
