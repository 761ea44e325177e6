"""Logging: one line per event, JSON for machines or colour for people, libraries included."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["json", "console"]

# Local variables would put keys and personal data into the logs.
_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)

# Libraries that tell every step at INFO; their warnings are what an operator needs.
QUIET = ("aiokafka", "kafka", "uvicorn.access", "asyncio", "mode", "faust", "faust.transport")


def configure(*, service: str, role: str, fmt: Format = "json", level: str = "INFO") -> None:
    """Set up structlog and the standard library's logging of this process, to standard error."""

    def name_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["role"] = role
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        name_process,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(fmt))
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _renderers(fmt: Format) -> list[Any]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if fmt == "json":
        return [
            drop,
            structlog.processors.ExceptionRenderer(_traceback),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=repr),
        ]
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [drop, renderer]
