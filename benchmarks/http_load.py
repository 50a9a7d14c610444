"""Load for an HTTP server: connections that each send their next request when the answer to the last one has come.

It implements as much of HTTP as the benchmarks need, so that it takes little of the processors that it shares with the
server.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WARM_UP_S = 0.5


class Request(NamedTuple):
    """A request."""

    method: str
    path: str
    key: str = ""
    body: bytes = b""
    expected: int = 200


@dataclass(frozen=True)
class Load:
    """Answers of one measurement."""

    times_s: Sequence[float]
    """Time of each request."""
    wall_s: float
    num_requests: int
    """Requests that were answered, those of the warm-up too."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.times_s) / self.wall_s

    @property
    def p99_s(self) -> float:
        """Time that 99 % of the requests did not exceed."""
        return statistics.quantiles(self.times_s, n=100)[98]


class Connection:
    """A connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open(self) -> Connection:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def send(self, request: Request) -> None:
        """Send a request."""
        key = f"Authorization: Bearer {request.key}\r\n" if request.key else ""
        body = request.body
        content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: localhost\r\n{key}{content}\r\n"
        self.writer.write(head.encode() + body)

    async def head(self) -> tuple[int, int]:
        """Return the status of an answer, and the length of its body in bytes."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        at = head.find(b"content-length:")
        return int(head[9:12]), int(head[at + 15 : head.index(b"\r\n", at)]) if at >= 0 else 0

    async def call(self, request: Request) -> bytes:
        """Send a request, and return the body of the answer.

        Raises:
            RuntimeError: it has another status than the expected one.
        """
        self.send(request)
        status, length = await self.head()
        content = await self.reader.readexactly(length)
        if status != request.expected:
            raise RuntimeError(
                f"{request.path} must be answered {request.expected}, but got {status}: {content[:500]!r}"
            )
        return content

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def measure(port: int, next_request: Callable[[], Request], *, connections: int, seconds: float) -> Load:
    """Send requests over new connections for a while, and return the times of those after the warm-up."""
    opened = [await Connection(port).open() for _ in range(connections)]
    begins = time.perf_counter() + WARM_UP_S
    ends, times, count = begins + seconds, list[float](), 0

    async def follow(connection: Connection) -> None:
        nonlocal count
        while (sent := time.perf_counter()) < ends:
            await connection.call(next_request())
            count += 1
            if sent >= begins:
                times.append(time.perf_counter() - sent)
        connection.close()

    await asyncio.gather(*map(follow, opened))
    return Load(times, seconds, count)
