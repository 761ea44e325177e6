"""Voucher codes: 80 bits derived from a secret, shown in Crockford base32 with a check character.

A code is nowhere at rest. It is computed from the voucher's id whenever an entitled reader asks,
and found again at the till by a fingerprint: see docs/decisions/0020-voucher-codes.md.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK_ALPHABET = ALPHABET + "*~$=U"
DATA_CHARS = 16
CODE_CHARS = DATA_CHARS + 1
CODE_BITS = 80
KEY_BYTES_MIN = 32
# 32 random bytes have about 30 different values; fewer than half of that was typed by a person.
DIFFERENT_BYTES_MIN = 16

_MODULUS = len(CHECK_ALPHABET)
_VALUE = {char: value for value, char in enumerate(CHECK_ALPHABET)}
# What people and fonts confuse, and what they put in for readability.
_READ_AS = str.maketrans(
    {"O": "0", "I": "1", "L": "1", "-": None, "–": None, " ": None, "\t": None}
)


class InvalidCodeError(ValueError):
    """No voucher can have this code: a character or the check character is wrong."""


class WeakSecretError(ValueError):
    """The secret could be guessed, or is no secret at all."""


def encode(number: int) -> str:
    """The code of an 80-bit number: 16 characters and the check character."""
    if not 0 <= number < 1 << CODE_BITS:
        raise ValueError(f"a code has {CODE_BITS} bits")
    digits = "".join(ALPHABET[number >> shift & 31] for shift in range(CODE_BITS - 5, -1, -5))
    return digits + CHECK_ALPHABET[number % _MODULUS]


def normalise(text: str) -> str:
    """The code a person meant: case, dashes and spaces do not count, O is 0, I and L are 1.

    Raises InvalidCodeError if its length, a character or its check character is wrong.
    """
    code = text.upper().translate(_READ_AS)
    if len(code) != CODE_CHARS:
        raise InvalidCodeError(f"a code has {CODE_CHARS} characters")
    if any(char not in ALPHABET for char in code[:DATA_CHARS]) or code[-1] not in CHECK_ALPHABET:
        raise InvalidCodeError("a character that no code has")
    number = 0
    for char in code[:DATA_CHARS]:
        number = number << 5 | _VALUE[char]
    if number % _MODULUS != _VALUE[code[-1]]:
        raise InvalidCodeError("the check character does not fit: probably a typing mistake")
    return code


@dataclass(frozen=True, slots=True)
class _Keys:
    """What one secret is used for, under a key each: neither tells anything about the other."""

    code: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Keyring:
    """The secrets, oldest first. A voucher keeps the version (from 1) of the one that made it."""

    _keys: tuple[_Keys, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read one secret a line, in hex; the last is used for new vouchers.

        Raises WeakSecretError if there is none, or if one is too short, not hex, or not random.
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise WeakSecretError("it is empty")
        return cls(
            tuple(_keys(_secret(line, number)) for number, line in enumerate(lines, start=1))
        )

    @property
    def current(self) -> int:
        """The version that new vouchers get."""
        return len(self._keys)

    def code(self, voucher_id: UUID, version: int) -> str:
        """The code: a keyed pseudo-random function of the id, so the same after any rebuild."""
        message = b"voucher-code" + version.to_bytes(4) + voucher_id.bytes
        digest = hmac.digest(self._at(version).code, message, sha256)
        return encode(int.from_bytes(digest[: CODE_BITS // 8]))

    def fingerprint(self, code: str, version: int) -> bytes:
        """What the database keeps to find a (normalised) code: of no use without the secret."""
        return hmac.digest(self._at(version).fingerprint, code.encode(), sha256)

    def fits(self, voucher_id: UUID, version: int, fingerprint: bytes) -> bool:
        """Whether the secret of this version is the one that the voucher was made with."""
        if version > len(self._keys):
            return False
        found = self.fingerprint(self.code(voucher_id, version), version)
        return hmac.compare_digest(found, fingerprint)

    def _at(self, version: int) -> _Keys:
        if not 1 <= version <= len(self._keys):
            raise WeakSecretError(
                f"key version {version} is missing: the file has {len(self._keys)}"
            )
        return self._keys[version - 1]


def _keys(secret: bytes) -> _Keys:
    return _Keys(
        code=hmac.digest(secret, b"treue: voucher codes", sha256),
        fingerprint=hmac.digest(secret, b"treue: voucher fingerprints", sha256),
    )


def _secret(line: str, number: int) -> bytes:
    try:
        secret = bytes.fromhex(line)
    except ValueError:
        raise WeakSecretError(f"line {number} is not hexadecimal") from None
    if len(secret) < KEY_BYTES_MIN:
        raise WeakSecretError(
            f"line {number} has {len(secret)} bytes; at least {KEY_BYTES_MIN} are needed"
        )
    if len(set(secret)) < DIFFERENT_BYTES_MIN:
        raise WeakSecretError(f"line {number} is not random: make one with `openssl rand -hex 32`")
    return secret
