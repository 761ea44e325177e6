"""Secrets of a local stack: made once at random, kept beside its data, never in the repository."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from urllib.parse import quote

from shared.db.roles import owner_of
from shared.stack.files import read_json, write_json, write_private
from shared.stack.layout import HOST, SERVICES, Layout

SUPERUSER = "postgres"


def _api_key() -> str:
    return f"tk_{secrets.token_hex(24)}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens this stack's doors; ``passwords`` by PostgreSQL role.

    ``second_key`` is the second person's: what needs two people needs two API keys.
    """

    api_key: str
    passwords: dict[str, str]
    kafka_cluster: str
    second_key: str = field(default_factory=_api_key)

    def dsn(self, role: str, port: int, database: str | None = None) -> str:
        """The address of a database (the role's own, if none is named) with its password."""
        password = quote(self.passwords[role])
        return f"postgresql://{role}:{password}@{HOST}:{port}/{database or role}"


def cluster_id(identity: uuid.UUID) -> str:
    """As Kafka writes it; never with a dash in front, which its tools take for an option."""
    text = base64.urlsafe_b64encode(identity.bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def _make() -> Credentials:
    return Credentials(
        api_key=_api_key(),
        passwords=_passwords(),
        kafka_cluster=cluster_id(uuid.uuid4()),
    )


def _passwords() -> dict[str, str]:
    roles = (SUPERUSER, *SERVICES, *map(owner_of, SERVICES))
    return {role: secrets.token_hex(24) for role in roles}


def ensure(layout: Layout) -> Credentials:
    """The stack's credentials, made on the first call; key hashes and voucher secret beside them."""
    known = read_json(layout.credentials_json)
    credentials = Credentials(**known) if known else _make()
    # A stack of an older version knows fewer roles.
    missing = _passwords().keys() - credentials.passwords.keys()
    credentials.passwords.update({role: secrets.token_hex(24) for role in sorted(missing)})
    if not known or missing or "second_key" not in known:
        write_json(layout.credentials_json, asdict(credentials))
    if not layout.secret.exists():
        write_private(layout.secret, secrets.token_hex(32) + "\n")
    keys = {"local": credentials.api_key, "second": credentials.second_key}
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
    lines = [{"id": name, "hash": digest, "scopes": ["*"]} for name, digest in hashes.items()]
    write_json(layout.keys_json, {"keys": lines})
    return credentials
