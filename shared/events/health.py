"""What works and what does not, for /readyz, ``treue status`` and the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from shared import clock

log = structlog.get_logger()


def told(error: BaseException) -> str:
    """An error in a few words. Time-outs have none of their own."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"


@dataclass(slots=True)
class Component:
    """One thing we depend on; ``since`` is the instant of its last change."""

    ok: bool
    detail: str
    since: datetime


class Health:
    """The state of a process, by component. A component unknown so far counts as not ready."""

    def __init__(self, *names: str) -> None:
        self._components = {
            name: Component(ok=False, detail="starting", since=clock.now()) for name in names
        }

    def up(self, name: str) -> None:
        """The component answers."""
        self._set(name, ok=True, detail="")

    def down(self, name: str, why: object) -> None:
        """The component does not answer; work waits for it."""
        self._set(name, ok=False, detail=str(why) or type(why).__name__)

    def _set(self, name: str, *, ok: bool, detail: str) -> None:
        before = self._components.get(name)
        if before is None or before.ok != ok:
            self._components[name] = Component(ok, detail, clock.now())
            if ok:
                log.info("component is up", component=name)
            else:
                log.warning("component is down", component=name, detail=detail)
        else:
            before.detail = detail

    def is_up(self, name: str) -> bool:
        """Whether the component answered when it was last asked."""
        return name in self._components and self._components[name].ok

    @property
    def ready(self) -> bool:
        """Whether every component is up."""
        return all(component.ok for component in self._components.values())

    def components(self) -> dict[str, Component]:
        """A copy of what is known, by name."""
        return dict(self._components)

    def report(self) -> dict[str, object]:
        """As JSON: ``{"ready": bool, "components": {name: {"ok", "detail", "since"}}}``."""
        return {
            "ready": self.ready,
            "components": {
                name: {"ok": c.ok, "detail": c.detail, "since": c.since.isoformat()}
                for name, c in self._components.items()
            },
        }
