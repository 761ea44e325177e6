"""Decimal arithmetic that never loses a digit, switched on once per purchase."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, getcontext, setcontext
from functools import wraps
from typing import ParamSpec, TypeVar

from shared.money import EXACT

P = ParamSpec("P")
R = TypeVar("R")

ZERO = Decimal(0)


def exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function with ``EXACT`` in force, so that plain operators raise rather than round.

    A switch costs 0.2 µs, nothing where it is in force already; ``decimal.localcontext`` would copy the context.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = getcontext()
        if before is EXACT:
            return function(*args, **kwargs)
        setcontext(EXACT)
        try:
            return function(*args, **kwargs)
        finally:
            setcontext(before)

    return run
