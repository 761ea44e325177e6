"""One module per kind of event or command: load, let the domain decide, append. Nothing is decided here."""

from __future__ import annotations

from services.points.handlers.activities import Activities
from services.points.handlers.customers import Customers
from services.points.handlers.merges import Merges
from services.points.handlers.purchases import Purchases
from services.points.handlers.redemptions import Redemptions
from services.points.handlers.refunds import Refunds
from shared.program import Program

__all__ = ["Handlers"]


class Handlers:
    """The handlers of events, bound to the program in force."""

    def __init__(self, program: Program) -> None:
        purchases = Purchases(program)
        self.purchases = purchases.handle
        self.activities = Activities(program).handle
        customers = Customers(program, purchases)
        self.enrolments, self.cards = customers.enrolled, customers.cards
        self.merges = Merges(program).handle
        self.refunds = Refunds(program).handle
        self.redemptions = Redemptions(program).handle
        # Of one mind with purchases: a batch of both locks once.
        self.tier_changes = purchases.handle
