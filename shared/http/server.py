"""Serving an app: uvicorn on uvloop, one process, ended by SIGTERM with 0."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from shared.errors import UsageError

GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


def run(app: ASGIApp, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, finish what is under way, and return."""
    listener = listen(host, port)
    # uvicorn raises the signal again after its shutdown: then, and before its start, we end with 0.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    server = uvicorn.Server(_config(app))
    server.run(sockets=[listener])
    if not server.started:
        raise UsageError("the API could not start; its log says why")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; a taken port is a ``UsageError`` that names it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
