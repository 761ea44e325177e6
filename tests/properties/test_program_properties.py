"""The program file: whatever is written, the answer is a program or a list of mistakes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.program import Program, ProgramError, parse

DEMO = (Path(__file__).parents[2] / "programs" / "demo.yaml").read_text(encoding="utf-8")
RULES = "\n".join(
    line for line in DEMO.splitlines() if line.strip() and not line.lstrip().startswith("#")
)
WORDS = [
    *("null", "~", "true", "[]", "{}", "[[]]", "{a: b}", "0", "-1", "1e999", ".nan", "0x1F"),
    *('"', "'", "*x", "&x ", "!!int ", "!t ", "<<: ", "? ", "- ", ": ", "\n", "\t", "#", "|", ">"),
    *(
        "9" * 400,
        '"\\UFFFFFFFF"',
        "\x00",
        "\ud800",
        "\ufeff",
        "%YAML 1.1",
        "---",
        "...",
        "P1D",
        ",",
    ),
]


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    text = RULES
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 12))
        text = text[:at] + draw(st.sampled_from(WORDS) | st.text(max_size=6)) + text[at + cut :]
    return text


@given(spoilt() | st.text(max_size=60))
@settings(deadline=None)
@example('program: "\\UFFFFFFFF"')
@example("%YAML 9.9\n---\nprogram: a")
@example("%FOO\n---\nprogram: a")
@example('"a\\nb": 1')
@example("? \n: \n")
@example("!!map [a]")
@example("!!seq {a: b}")
@example("!!str {a: b}")
@example("vouchers: {a: {kind: {percent: 1}}}\ntiers: {levels: {0: {threshold: [1]}}}")
@example("earning: {expiry: {kind: [none]}, campaigns: [{from: 9999-12-31, until: 0001-01-01}]}")
@example("timezone: Asia/Kolkata\nearning: {campaigns: [{from: 0001-01-01, until: 9999-12-31}]}")
@example("currency: [EUR]\nvouchers: [percent]\nrewards: [{birthday: 1}]\nshops: {a: b}")
def test_the_answer_is_a_program_or_its_mistakes(text: str) -> None:
    answer = parsed(text)
    if isinstance(answer, Program):
        assert len(answer.version) == 12
        return
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 2
    assert answer.mistakes
    assert all(0 <= mistake.line <= lines for mistake in answer.mistakes)
    assert len(str(answer).splitlines()) == len(answer.mistakes)


def parsed(text: str) -> Program | ProgramError:
    try:
        return parse(text)
    except ProgramError as error:
        return error
