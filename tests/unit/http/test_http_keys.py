"""The keys file: what it may hold, and how a change of it takes effect."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.http import keys
from shared.http.keys import KeyRing
from tests.fixtures.http_probe import keys_file, write_keys

ZEROS = "0" * 64


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "RELOAD_SECONDS", 0.0)


def test_a_key_is_found_by_its_secret_alone(tmp_path: Path) -> None:
    ring = KeyRing(keys_file(tmp_path))
    found = ring.find("all-of-it")
    assert found is not None
    assert found.id == "all"
    assert found.allows("points:read")
    assert ring.find(found.hash) is None
    assert ring.find("all-of-it ") is None
    assert ring.find("x" * 1_000_000) is None
    assert ring.find("ä\udcff") is None


def test_scopes_are_exact(tmp_path: Path) -> None:
    found = KeyRing(keys_file(tmp_path)).find("tiers-only")
    assert found is not None
    assert found.allows("tiers:read")
    assert not found.allows("points:read")


def test_a_changed_file_takes_effect(tmp_path: Path) -> None:
    file = keys_file(tmp_path)
    ring = KeyRing(file)
    write_keys(file, [("new", "brand-new", ["points:read"])])
    assert ring.find("all-of-it") is None
    assert ring.find("brand-new") is not None


@pytest.mark.parametrize("text", ["", "{", '{"keys": [{"id": "a"}]}', '{"keys": [], "x": 1}'])
def test_a_broken_change_leaves_the_former_keys(tmp_path: Path, text: str) -> None:
    file = keys_file(tmp_path)
    ring = KeyRing(file)
    file.write_text(text)
    assert ring.find("all-of-it") is not None
    file.unlink()
    assert ring.find("all-of-it") is not None


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        '{"keys": [{"id": "a", "hash": "00", "scopes": ["*"]}]}',
        f'{{"keys": [{{"id": "a", "hash": "{ZEROS}", "scopes": ["points:admin"]}}]}}',
        json.dumps({"keys": [{"id": i, "hash": ZEROS, "scopes": ["*"]} for i in "ab"]}),
    ],
)
def test_a_broken_file_at_start_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"keys\.json cannot be used"):
        KeyRing(file)


def test_a_missing_file_at_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json cannot be used"):
        KeyRing(tmp_path / "none.json")


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    file = keys_file(tmp_path)
    ring = KeyRing(file)
    before = file.stat()
    file.write_bytes(b" " * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ring.find("all-of-it") is not None


def test_keys_may_come_as_a_text(tmp_path: Path) -> None:
    ring = KeyRing(keys_file(tmp_path).read_text())
    assert ring.find("all-of-it") is not None
    with pytest.raises(UsageError, match="keys in the environment cannot be used"):
        KeyRing("{")
