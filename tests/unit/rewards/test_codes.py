"""Voucher codes: alphabet, check character, reading what people type, and secrets that are none."""

from __future__ import annotations

import secrets
from random import Random
from uuid import UUID

import pytest

from services.rewards.domain.codes import (
    ALPHABET,
    CHECK_ALPHABET,
    CODE_CHARS,
    InvalidCodeError,
    Keyring,
    WeakSecretError,
    encode,
    normalise,
)

SECRET = "".join(f"{byte:02x}" for byte in range(7, 39))
VOUCHER = UUID("3b1f2a9c-5a7e-5f0d-8b51-0c6f5a7d9e10")


def test_alphabet_is_crockfords() -> None:
    assert len(ALPHABET) == 32
    assert not set("ILOU") & set(ALPHABET)
    assert CHECK_ALPHABET == ALPHABET + "*~$=U"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0, "0" * 17),
        (1, "0" * 15 + "11"),
        (36, "0" * 14 + "14U"),
        (1234, "0" * 13 + "16JD"),  # the example of Crockford's page
        ((1 << 80) - 1, "Z" * 16 + CHECK_ALPHABET[((1 << 80) - 1) % 37]),
    ],
)
def test_encode(number: int, code: str) -> None:
    assert encode(number) == code
    assert normalise(code) == code


@pytest.mark.parametrize("number", [-1, 1 << 80])
def test_encode_takes_80_bits(number: int) -> None:
    with pytest.raises(ValueError, match="80 bits"):
        encode(number)


def test_the_code_of_a_voucher_never_changes() -> None:
    """Golden: these codes are on paper. Whoever changes the derivation breaks them."""
    assert Keyring.parse(SECRET).code(VOUCHER, 1) == "SAVD4KNVFTRA26HB3"


def test_codes_depend_on_voucher_secret_and_version() -> None:
    other = secrets.token_hex(32)
    ring = Keyring.parse(f"{SECRET}\n{SECRET}\n{other}\n")
    codes = {ring.code(VOUCHER, version) for version in (1, 2, 3)}
    codes.add(ring.code(UUID(int=VOUCHER.int + 1), 1))
    assert len(codes) == 4
    assert ring.current == 3
    assert all(normalise(code) == code for code in codes)


def test_fingerprint_is_keyed_and_apart_from_the_code() -> None:
    ring = Keyring.parse(SECRET)
    code = ring.code(VOUCHER, 1)
    fingerprint = ring.fingerprint(code, 1)
    assert len(fingerprint) == 32
    assert fingerprint == ring.fingerprint(code, 1)
    assert fingerprint != Keyring.parse(secrets.token_hex(32)).fingerprint(code, 1)
    assert code.encode() not in fingerprint


@pytest.mark.parametrize("position", range(CODE_CHARS))
def test_check_character_finds_every_wrong_character(position: int) -> None:
    code = encode(Random(position).getrandbits(80))
    alphabet = CHECK_ALPHABET if position == CODE_CHARS - 1 else ALPHABET
    for char in set(alphabet) - {code[position]}:
        with pytest.raises(InvalidCodeError, match="check character"):
            normalise(code[:position] + char + code[position + 1 :])


@pytest.mark.parametrize("position", range(CODE_CHARS - 2))
def test_check_character_finds_every_swap_of_neighbours(position: int) -> None:
    rest = encode(Random(position).getrandbits(80))
    for first in range(32):
        for second in range(32):
            if first == second:
                continue
            number = _number(
                rest[:position] + ALPHABET[first] + ALPHABET[second] + rest[position + 2 :]
            )
            code = encode(number)
            swapped = code[:position] + code[position + 1] + code[position] + code[position + 2 :]
            with pytest.raises(InvalidCodeError):
                normalise(swapped)


def _number(code: str) -> int:
    number = 0
    for char in code[:16]:
        number = number * 32 + ALPHABET.index(char)
    return number


def test_check_character_finds_its_swap_with_the_last_one() -> None:
    for seed in range(500):
        code = encode(Random(seed).getrandbits(80))
        if code[15] == code[16]:
            continue
        with pytest.raises(InvalidCodeError):
            normalise(code[:15] + code[16] + code[15])


@pytest.mark.parametrize(
    "typed",
    [
        "0000-0000-0001-6JD1-2",
        " oooo-OOOO ooo1 6jdi 2 ",
        "OOOOOOOOOOOL6JDI2",
        "0000–0000–000l–6jd1–2",
    ],
)
def test_normalise_reads_what_people_type(typed: str) -> None:
    assert normalise(typed) == "0000000000016JD12"


@pytest.mark.parametrize(
    "typed",
    ["", "0", "0" * 16, "0" * 18, "U" + "0" * 16, "ß" * 17, "٣" * 17, "0" * 16 + "\x00", "*" * 17],
)
def test_normalise_refuses(typed: str) -> None:
    with pytest.raises(InvalidCodeError):
        normalise(typed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n  \n", "empty"),
        ("secret", "not hexadecimal"),
        ("ab" * 31, "31 bytes"),
        ("00" * 32, "not random"),
        ("0123456789abcdef" * 8, "not random"),
        (SECRET + "\n" + "11" * 32, "line 2"),
    ],
)
def test_weak_secrets_are_refused(text: str, message: str) -> None:
    with pytest.raises(WeakSecretError, match=message):
        Keyring.parse(text)


def test_a_missing_key_version_is_named() -> None:
    with pytest.raises(WeakSecretError, match="key version 2 is missing"):
        Keyring.parse(SECRET).code(VOUCHER, 2)


def test_secrets_do_not_show_in_a_repr() -> None:
    assert "x" not in repr(Keyring.parse(SECRET))[len("Keyring(") :]
    assert SECRET not in repr(Keyring.parse(SECRET))
