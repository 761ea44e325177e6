"""API keys and scopes: who may call which route.

Keys are long random strings, so a fast hash guards them at rest; only the hash is in the file.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import structlog
from fastapi import Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from shared.errors import UsageError
from shared.http.problems import Problem

Scope = Literal[
    "points:read", "points:write", "tiers:read", "tiers:write", "rewards:read", "rewards:write", "*"
]
RELOAD_SECONDS = 1.0
KEY_CHARS_MAX = 500

log = structlog.get_logger(__name__)


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the keys file; ``hash`` is the SHA-256 of the key, in hex."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    scopes: frozenset[Scope]

    def allows(self, scope: str) -> bool:
        """Whether this key may do what ``scope`` names."""
        return scope in self.scopes or "*" in self.scopes


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys file: ``{"keys": [{"id", "hash", "scopes"}]}``."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Version:
    """What tells one content of the file from another without reading it."""

    inode: int
    size: int
    modified_ns: int


class KeyRing:
    """The keys of a file, read again within a second of its change, or of a text that stays.

    A file that is broken or gone at start is a ``UsageError``; later it is logged and the keys
    known last stay in force, so that a half-written file locks nobody out.
    """

    def __init__(self, source: Path | str) -> None:
        self._path = source if isinstance(source, Path) else None
        self._by_hash: dict[str, Key] = {}
        self._version: _Version | None = None
        self._look_again = 0.0
        try:
            if isinstance(source, Path):
                self._load(source)
            else:
                self._by_hash = _parse(source.encode())
        except (OSError, msgspec.MsgspecError, UsageError) as error:
            where = f"keys file {source}" if self._path else "keys in the environment"
            raise UsageError(f"{where} cannot be used: {error}") from error

    def find(self, secret: str) -> Key | None:
        """The key whose secret this is."""
        self._refresh()
        if len(secret) > KEY_CHARS_MAX:
            return None
        digest = sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        # The look-up's timing speaks of a hash only, which nobody can steer towards a stored one.
        key = self._by_hash.get(digest)
        return key if key is not None and hmac.compare_digest(key.hash, digest) else None

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._path is None or now < self._look_again:
            return
        self._look_again = now + RELOAD_SECONDS
        try:
            if _stat(self._path) != self._version:
                self._load(self._path)
                log.info("keys reloaded", file=str(self._path), keys=len(self._by_hash))
        except (OSError, msgspec.MsgspecError, UsageError) as error:
            log.error("keys file unusable, the former keys stay", reason=str(error))  # noqa: TRY400

    def _load(self, path: Path) -> None:
        version = _stat(path)
        self._by_hash, self._version = _parse(path.read_bytes()), version


def _stat(path: Path) -> _Version:
    found = path.stat()
    return _Version(found.st_ino, found.st_size, found.st_mtime_ns)


def _parse(text: bytes) -> dict[str, Key]:
    keys = msgspec.json.decode(text, type=KeyFile).keys
    by_hash = {key.hash: key for key in keys}
    if len(by_hash) != len(keys):
        raise UsageError("two keys have the same hash")
    return by_hash


class Require(SecurityBase):
    """A route's demand for a scope; ``require("points:read")`` makes one."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.scheme_name = "ApiKey"
        self.model = HTTPBearer(description="An API key; each route names the scope it needs.")

    async def __call__(self, request: Request) -> Key:
        """Let the request pass with a key that has the scope."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret:
            raise _unauthorized("Send an API key as `Authorization: Bearer <key>`.")
        key = request.app.state.keys.find(secret.strip())
        if key is None:
            raise _unauthorized("This API key is not known here.", error="invalid_token")
        if not key.allows(self.scope):
            raise Problem(
                "missing-scope",
                f"This API key lacks the scope {self.scope}.",
                headers={
                    "WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.scope}"'
                },
                extra={"scope": self.scope},
            )
        request.state.key = key
        return key  # type: ignore[no-any-return] # app.state is untyped


def require(scope: Scope) -> Any:
    """A dependency for ``dependencies=[require("points:read")]`` of a router or route."""
    return Security(Require(scope))


def _unauthorized(detail: str, error: str = "") -> Problem:
    challenge = f'Bearer realm="treue", error="{error}"' if error else 'Bearer realm="treue"'
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})
