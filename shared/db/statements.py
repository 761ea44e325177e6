"""Named SQL statements in files that psql can run: parsed by aiosql, executed by asyncpg as they are.

Only aiosql's parser is used. Its asyncpg adapter looks into the connection's attributes on every call, which
costs more than a short statement itself; we take the finished text and call asyncpg with positional arguments,
in the order in which the parameters first appear in the statement.
"""

from __future__ import annotations

from pathlib import Path

import aiosql


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
