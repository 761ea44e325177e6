"""The secret file: read, or refused with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.rewards.domain.codes import Keyring
from services.rewards.settings import Settings
from shared.errors import UsageError
from tests.unit.rewards.given import SECRET


def settings(secret_file: Path | None, secret: str | None = None) -> Settings:
    return Settings(
        database="postgresql://nowhere/rewards",
        kafka="127.0.0.1:1",
        program=Path("program.yaml"),
        keys_file=Path("keys.json"),
        port=1,
        worker_port=2,
        secret_file=secret_file,
        secret=None if secret is None else SecretStr(secret),
    )


def test_a_good_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    assert settings(file).keyring().current == 1


def test_the_secret_as_text() -> None:
    given = settings(None, SECRET)
    assert given.keyring() == Keyring.parse(SECRET)
    assert SECRET not in repr(given)


@pytest.mark.parametrize("secret", [None, "", "changeme"])
def test_no_good_secret_as_text(secret: str | None) -> None:
    with pytest.raises(UsageError, match=r"^TREUE_REWARDS_SECRET \(or _SECRET_FILE\) is no good"):
        settings(None, secret).keyring()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"changeme", "not hexadecimal"),
        (b"00" * 32, "not random"),
        ("äöü".encode(), "not a text of hexadecimal lines"),
    ],
)
def test_no_good_secret(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        settings(file).keyring()
    assert str(caught.value).startswith("TREUE_REWARDS_SECRET_FILE: ")
