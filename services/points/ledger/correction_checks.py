"""What must always hold of corrections by people."""

from __future__ import annotations

from collections.abc import Sequence

from shared.invariants import Invariant

BOOKED = Invariant(
    "corrections-stand-as-decided",
    "a correction above the limit is booked in full if a second person approved it, else not at all",
    """
    SELECT c.correction_id, c.state, c.points, c.requested_by, c.decided_by, e.points AS booked
    FROM corrections c
    LEFT JOIN (SELECT event_key, sum(points) AS points FROM entries WHERE kind = 'adjusted' GROUP BY event_key) e
        ON e.event_key = c.correction_id
    WHERE coalesce(e.points, 0) <> CASE WHEN c.state = 'approved' THEN c.points ELSE 0 END
       OR c.decided_by = c.requested_by
    """,
)
REVERSED = Invariant(
    "reversed-once-and-in-full",
    "a reversal takes back exactly one adjustment, on the same lot, and no adjustment is reversed twice",
    """
    SELECT r.entry_id, r.points, o.entry_id AS reverses, o.points AS of
    FROM (SELECT *, (explanation -> 's' ->> 2)::uuid AS origin,
                 count(*) OVER (PARTITION BY explanation -> 's' ->> 2) AS times
          FROM entries WHERE kind = 'reversed') r
    LEFT JOIN entries o ON o.entry_id = r.origin AND o.kind = 'adjusted'
    WHERE o.entry_id IS NULL OR o.points + r.points <> 0 OR o.lot_id <> r.lot_id OR r.times > 1
    """,
)
EXTENDED = Invariant(
    "extensions-move-and-never-make",
    "what an extension takes out of a lot is what it puts into the new one",
    """
    SELECT event_key, sum(points) AS points, count(*) AS entries
    FROM entries WHERE kind = 'adjusted' AND reason = 'extension'
    GROUP BY event_key HAVING sum(points) <> 0 OR count(*) <> 2
    """,
)
SIGNED = Invariant(
    "corrections-are-signed",
    "whatever a person corrected names who it was",
    "SELECT entry_id, kind FROM entries WHERE kind IN ('adjusted', 'reversed') AND actor IS NULL",
)


def of() -> Sequence[Invariant]:
    """All of them."""
    return (BOOKED, REVERSED, EXTENDED, SIGNED)
