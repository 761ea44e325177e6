"""Is it ready? Each probe asks the process itself, in its own protocol, and never raises."""

from __future__ import annotations

import socket
import struct
from http.client import HTTPConnection, HTTPException

from shared.stack.layout import HOST

PROBE_SECONDS = 1.0
HTTP_SECONDS = 3.0
HTTP_OK = 200
API_VERSIONS = 18
CORRELATION = 7
ANSWER_HEAD_BYTES = 10  # length, correlation id, error code
ANSWER_BYTES_MAX = 4096
PROTOCOL_3 = 196608


def kafka(port: int) -> bool:
    """An ApiVersions request gets its answer: the broker takes requests, not merely connections."""
    request = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION, -1)
    try:
        with socket.create_connection((HOST, port), PROBE_SECONDS) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            answer = link.recv(ANSWER_HEAD_BYTES, socket.MSG_WAITALL)
    except OSError:
        return False
    if len(answer) < ANSWER_HEAD_BYTES:
        return False
    _, correlation, error = struct.unpack(">iih", answer)
    return bool(correlation == CORRELATION and error == 0)


def postgres(port: int) -> bool:
    """A start-up packet is asked for a password: the server is past recovery and takes sessions.

    While it starts up or shuts down it answers the same packet with an error.
    """
    body = struct.pack(">i", PROTOCOL_3) + b"user\0postgres\0database\0postgres\0\0"
    try:
        with socket.create_connection((HOST, port), PROBE_SECONDS) as link:
            link.sendall(struct.pack(">i", len(body) + 4) + body)
            # Read it to the end: closing with unread bytes would leave an error in the server's log.
            return link.recv(ANSWER_BYTES_MAX).startswith(b"R")
    except OSError:
        return False


def http(port: int, path: str = "/readyz") -> bool:
    """The path answers 200."""
    connection = HTTPConnection(HOST, port, timeout=HTTP_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTP_OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
