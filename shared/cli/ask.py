"""Questions to the services' own APIs, as any client asks them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from shared.errors import UsageError

SECONDS_MAX = 120


def ask(
    stack: Mapping[str, Any], service: str, path: str, query: Mapping[str, str | None]
) -> dict[str, Any]:
    """The JSON answer of a service of the stack; a refusal or silence is told in one sentence."""
    given = {name: value for name, value in query.items() if value is not None}
    url = stack[f"{service}_url"] + path + (f"?{urlencode(given)}" if given else "")
    request = Request(url, headers={"Authorization": f"Bearer {stack['api_key']}"})  # noqa: S310
    try:
        with urlopen(request, timeout=SECONDS_MAX) as answer:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        raise UsageError(_refusal(error)) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(f"{service} does not answer ({reason}); see `treue status`") from None
    return found


def _refusal(error: HTTPError) -> str:
    try:
        problem = json.load(error)
        fields = "; ".join(f"{e['field']}: {e['message']}" for e in problem.get("errors", ()))
        return f"{problem['detail']} ({problem['code']}){f': {fields}' if fields else ''}"
    except (ValueError, KeyError, TypeError):
        return f"refused with status {error.code}"
