"""What ``treue up`` shows: each part as it becomes ready, the addresses, later whatever dies."""

from __future__ import annotations

import json
import subprocess
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from shared.errors import UsageError
from shared.stack.control import SUPERVISOR
from shared.stack.files import tail
from shared.stack.layout import HOST, SERVICES
from shared.stack.supervisor import ending

if TYPE_CHECKING:
    from shared.stack.local import Plan

STOP_SECONDS_MAX = 30


class Progress:
    """Reads the supervisor's events and turns them into lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._under_way: dict[str, str] = {}

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True)

    def follow(self, supervisor: subprocess.Popen[bytes], plan: Plan, *, detach: bool) -> None:
        """Show the start; then return (detached) or stay until the stack has stopped."""
        if supervisor.stdout is None:
            raise UsageError("the supervisor was started without its pipe")
        last = ""
        with self.console.status("Starting …") as status:
            for event in _events(supervisor.stdout):
                last = event["event"]
                self._tell(event)
                status.update(" · ".join(self._under_way.values()) or "Running …")
                if last == "ready":
                    status.stop()
                    self.say_addresses(plan, detach=detach)
                    if detach:
                        supervisor.stdout.close()
                        return
                elif last == "failed":
                    failure = event["message"]
                    status.update("Stopping what has started …")
                    supervisor.wait(STOP_SECONDS_MAX)
                    raise UsageError(failure)
        if last != "stopped":
            words = tail(plan.layout.log(SUPERVISOR))[-3:]
            raise UsageError(
                "the supervisor ended unexpectedly; `treue down` ends what still runs."
                + "".join(f"\n  {line}" for line in words)
            )
        supervisor.wait(STOP_SECONDS_MAX)

    def _tell(self, event: dict[str, Any]) -> None:
        name = event.get("name", "")
        match event["event"]:
            case "begin":
                self._under_way[name] = event["title"]
            case "done":
                self._under_way.pop(name, None)
                self.say(f"[green]✓[/] {event['title']} [dim]{event['seconds']:.1f} s[/]")
            case "exit":
                self.say(
                    f"[yellow]![/] {name} {escape(ending(event['code']))}; again in {event['pause']:g} s"
                )
            case "killed":
                self.say(f"[yellow]![/] {name} did not stop in {event['after']:g} s and was killed")
            case "ready":
                self.say(f"[bold green]Ready[/] after {event['seconds']:.1f} s")
            case "stopping":
                self.say("Stopping … (the data stays)")
            case "stopped":
                self.say("Stopped.")

    def say_addresses(self, plan: Plan, *, detach: bool) -> None:
        """Where everything is, and how to go on."""
        rows = {service: f"http://{HOST}:{plan.ports.api(service)}/docs" for service in SERVICES}
        rows["Kafka"] = f"{HOST}:{plan.ports.kafka}"
        rows["PostgreSQL"] = f"{HOST}:{plan.ports.postgres}"
        rows["program"] = str(plan.program)
        rows["keys"] = str(plan.layout.stack_json)
        rows["logs"] = str(plan.layout.logs)
        for what, where in rows.items():
            self.say(f"  {what:<11}{escape(where)}")
        self.say("Stop with `treue down`." if detach else "Ctrl-C stops it and keeps the data.")


def _events(pipe: IO[bytes]) -> Any:
    for line in pipe:
        yield json.loads(line)
