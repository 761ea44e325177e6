"""What a difference between two programs means for members once the new one holds, in a sentence each."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from shared.program.difference import SAYS, Difference


def for_members(item: Difference) -> str:
    """One sentence about a field that differs."""
    found = f"reaches {SAYS[item.reach]}"
    match item.path:
        case ("earning", "campaigns", str(name), *rest):
            found = _campaign(name, item, whole=not rest)
        case ("tiers", "levels", str(name), *rest):
            found = _level(name, "".join(map(str, rest)), item) or found
        case ("tiers", "grace" | "downgrade"):
            found = "levels that end unmet from then on; whoever is on one keeps it until it ends"
        case ("vouchers", str(name), *_):
            found = _voucher(name, item)
        case ("earning", "expiry" | "available_after", *_):
            found = (
                "points earned from then on have the new dates; those that are there keep theirs"
            )
        case ("earning", "base" | "net_of_tax" | "exclude", *_):
            found = "purchases from then on earn by this; points that are there stay as they are"
    return found


def _campaign(name: str, item: Difference, *, whole: bool) -> str:
    if whole and item.old is None:
        return f"purchases from then on count for {name}"
    if whole and item.new is None:
        return f"{name} ends when this begins; what it has given stays"
    if item.path[3:4] == ("cap",):
        return f"this bounds purchases from then on, together with what {name} has given under a cap before"
    return f"purchases from then on have {name} with these terms; what it has given stays"


def _level(name: str, field: str, item: Difference) -> str:
    more = _number(item.new) > _number(item.old)
    lifted = "whoever has enough is lifted by the next purchase"
    if not field:
        return f"nobody could be on {name} any more" if item.new is None else f"{name}: {lifted}"
    if field == "threshold" and more:
        return f"{name} is harder to reach; who is on it keeps it until it ends, and is judged by this then"
    if field == "threshold":
        return f"{name} is easier to reach; {lifted}"
    if field == "multiplier":
        how = "more" if more else "less"
        return (
            f"who is on {name} earns {how} with purchases from then on; points that are there stay"
        )
    if field == "on_reach":
        return f"who reaches {name} from then on gets these; vouchers that were given stay"
    return ""


def _voucher(name: str, item: Difference) -> str:
    if item.path == ("vouchers", name) and item.new is None:
        return f"{name} is not given any more; those that members have stay as they are"
    return f"vouchers {name} given from then on are this; those that members have stay as they are"


def _number(text: str | None) -> Decimal:
    try:
        return Decimal(text or "0")
    except InvalidOperation:
        return Decimal(0)
