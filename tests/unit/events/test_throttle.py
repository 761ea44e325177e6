"""The log of a long outage: each thing said once, then how often it was said."""

from __future__ import annotations

import logging

from shared.telemetry.throttle import AGAIN_SECONDS, KEPT_MAX, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def said(name: str, text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, text, arguments, None)


def test_a_library_says_the_same_once_in_a_while_and_how_often() -> None:
    clock = Clock()
    throttle = Throttle("aiokafka", clock=clock)
    told = [throttle.filter(said("aiokafka.conn", "no node %s", n)) for n in range(50)]
    assert told == [True] + [False] * 49
    clock.now += AGAIN_SECONDS
    again = said("aiokafka.conn", "no node %s", 7)
    assert throttle.filter(again)
    assert again.getMessage() == "no node 7 (and 49 times more since it was last told)"
    clock.now += AGAIN_SECONDS
    once = said("aiokafka.conn", "no node %s", 8)
    assert throttle.filter(once)
    assert once.getMessage() == "no node 8"


def test_other_messages_and_our_own_are_not_withheld() -> None:
    throttle = Throttle("aiokafka", "mode")
    assert throttle.filter(said("aiokafka", "one"))
    assert throttle.filter(said("aiokafka", "another"))
    assert throttle.filter(said("mode", "one"))
    assert all(throttle.filter(said("shared.events.relay", "ours")) for _ in range(5))


def test_what_it_remembers_is_bounded() -> None:
    throttle = Throttle("aiokafka")
    for number in range(3 * KEPT_MAX):
        throttle.filter(said("aiokafka", f"text {number}"))
    assert len(throttle._said) <= KEPT_MAX
