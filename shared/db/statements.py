"""Named SQL statements in files that psql can run: parsed by aiosql, executed by asyncpg as they are.

Only aiosql's parser is used. Its asyncpg adapter looks into the connection's attributes on every call, which
costs more than a short statement itself; we take the finished text and call asyncpg with positional arguments,
in the order in which the parameters first appear in the statement.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import aiosql

# What a scan for the end of a statement's WITH list has to tell apart.
_TOKEN = re.compile(
    r"--[^\n]*|'(?:[^']|'')*'|[()]|\b(?:WITH|SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE
)
_PARAMETER = re.compile(r"\$(\d+)")


class Statements:
    """The statements of one folder as attributes: ``sql.insert_entries`` is the text for asyncpg."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def __getattr__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            raise AttributeError(f"no SQL statement named {name!r}") from None

    def names(self) -> tuple[str, ...]:
        """All statement names, in file order."""
        return tuple(self._texts)


def load(*paths: Path) -> Statements:
    """The statements of the given files or folders. Raises ValueError for a name that stands twice."""
    texts: dict[str, str] = {}
    files = [f for p in paths for f in (sorted(p.glob("*.sql")) if p.is_dir() else [p])]
    for file in files:
        queries = aiosql.from_path(str(file), "asyncpg", mandatory_parameters=False)
        for name in queries.available_queries:
            if name.endswith("_cursor"):
                continue
            if name in texts:
                raise ValueError(f"{file.name}: the statement {name!r} exists already")
            texts[name] = getattr(queries, name).sql
    return Statements(texts)


@lru_cache(maxsize=100)
def together(first: str, parameters: int, second: str) -> str:
    """Two statements as one: the first, which writes, and then the second, whose rows it gives.

    The parameters of the second are numbered after the ``parameters`` of the first. Neither sees what the other
    writes, and the names in their WITH lists must differ.
    """
    parts, main = _split(first)
    more, last = _split(_PARAMETER.sub(lambda m: f"${int(m[1]) + parameters}", second))
    names = [*parts, f"written_first AS ({main}\n)", *more]
    # Each on a line of its own, for it may end with a comment.
    return "WITH " + "\n, ".join(names) + f"\n{last}"


def _split(text: str) -> tuple[list[str], str]:
    """The WITH list of a statement, as one text if there is any, and what comes after it."""
    depth, listed = 0, 0
    for token in _TOKEN.finditer(text):
        found = token[0]
        if found == "(":
            depth += 1
        elif found == ")":
            depth -= 1
        elif depth == 0 and found.upper() == "WITH":
            listed = token.end()
        elif depth == 0 and found[0] not in "-'":
            main = text[token.start() :].rstrip().rstrip(";")
            return ([text[listed : token.start()].strip()] if listed else []), main
    raise ValueError(f"no statement: {text[:60]!r}")
