"""A TCP proxy that forwards requests and drops the answers to some of them: the work is done, its answer is lost."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


class DroppingProxy:
    """Forwards to a server; closes the connection instead of answering the first `drops` requests that begin so."""

    def __init__(self, url: str, begins: bytes, drops: int) -> None:
        parts = urlsplit(url)
        self._server, self._begins, self.drops_left = (parts.hostname, parts.port), begins, drops
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._forward, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket) -> None:
        is_dropped = False
        with client, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    chunk = ready.recv(CHUNK_BYTES)
                    if not chunk or (ready is server and is_dropped):
                        return
                    if ready is client and chunk.startswith(self._begins) and self.drops_left:
                        self.drops_left -= 1
                        is_dropped = True
                    (server if ready is client else client).sendall(chunk)
