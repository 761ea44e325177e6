"""The liability as a table, and what is said when nobody answers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from shared.cli.ask import ask
from shared.cli.liability import show
from shared.errors import UsageError

NAMES = ("opening", "earned", "spent", "expired", "corrected", "closing")


def sums(*numbers: int, money: bool) -> dict[str, Any]:
    worth = {name: f"{number / 100:.2f}" for name, number in zip(NAMES, numbers, strict=True)}
    about = {"currency": "GBP", "point_value": "0.01", **worth} if money else None
    return dict(zip(NAMES, numbers, strict=True)) | {"kinds": {}, "money": about}


def shown(*, money: bool) -> list[list[str]]:
    december = {"month": "2011-12", **sums(1000, 2500, 300, 150, -50, 3000, money=money)}
    report = {
        "timezone": "Europe/London",
        "as_of": "2012-01-01T00:00:00Z",
        "months": [december],
        "total": sums(1000, 2500, 300, 150, -50, 3000, money=money),
    }
    text = io.StringIO()
    show(report, Console(file=text, width=120, highlight=False))
    return [line.split() for line in text.getvalue().splitlines() if line.split()]


def test_a_month_is_told_in_points() -> None:
    lines = shown(money=False)
    assert lines[1] == ["month", *NAMES]
    assert ["2011-12", "1,000", "2,500", "300", "150", "-50", "3,000"] in lines
    assert lines[-1][-3:] == ["as", "of", "2012-01-01T00:00:00Z."]
    assert not any("GBP," in line for line in lines)


def test_a_month_is_told_in_money_where_a_point_has_a_value() -> None:
    lines = shown(money=True)
    assert ["GBP,", "at", "0.01", "a", "point"] in lines
    assert ["2011-12", "10.00", "25.00", "3.00", "1.50", "-0.50", "30.00"] in lines


def test_who_is_not_there_is_told_in_one_sentence() -> None:
    stack = {"points_url": "http://127.0.0.1:1", "api_key": "k"}
    with pytest.raises(UsageError, match=r"points does not answer .*treue status"):
        ask(stack, "points", "/v1/reports/liability", {"from": None})
