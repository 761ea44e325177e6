"""A served app as a process: its start, its answers to broken requests, its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import UsageError
from shared.http import server

ROOT = Path(__file__).parents[3]
START_SECONDS_MAX = 20.0
SCRIPT = """
import sys
from pathlib import Path
from shared.http import server
from tests.fixtures.http_probe import probe_app
server.run(probe_app(Path(sys.argv[1])), "127.0.0.1", int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def connected(port: int) -> socket.socket:
    until = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def exchange(port: int, request: bytes) -> bytes:
    with connected(port) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(port)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    connected(port).close()
    yield process, port
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(
    served: tuple[subprocess.Popen[bytes], int], number: signal.Signals
) -> None:
    process, port = served
    answer = exchange(port, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    process.send_signal(number)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/customers/%FF%FE/thing", 200),
        (b"/v1/customers/%ED%A0%80/thing", 200),
        (b"/v1/customers/%zz/thing", 200),
        (b"/v1/customers/a%00b/thing", 422),
        (b"/v1/customers/" + b"x" * 30_000 + b"/thing", 422),
        (b"/v1/customers/17850/thing?at=%FF", 422),
        (b"//v1/customers/17850/thing", 404),
    ],
)
def test_broken_requests_are_answered_not_crashed_on(
    served: tuple[subprocess.Popen[bytes], int], target: bytes, status: int
) -> None:
    head = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all-of-it\r\nConnection: close\r\n\r\n"
    answer = exchange(served[1], b"GET " + target + head)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer[:500]
    assert b"\r\nx-request-id: " in answer


def test_a_header_that_is_no_text_is_answered(
    served: tuple[subprocess.Popen[bytes], int],
) -> None:
    head = b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
    assert exchange(served[1], b"GET /v1/things" + head).startswith(b"HTTP/1.1 401")
    assert exchange(served[1], b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 262145", b"413"),
        (b"Content-Length: 9999999999", b"413"),
        (b"Transfer-Encoding: chunked", b"411"),
    ],
)
def test_a_body_without_bounds_is_not_read(
    served: tuple[subprocess.Popen[bytes], int], framing: bytes, status: bytes
) -> None:
    head = b"POST /v1/things HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + framing + b"\r\n\r\n"
    with connected(served[1]) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_a_taken_port_is_named() -> None:
    port = free_port()
    with server.listen("127.0.0.1", port) as taken:
        taken.listen()
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
            server.listen("127.0.0.1", port)
