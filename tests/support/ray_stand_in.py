"""A server that speaks Ray's Jobs API and obeys a test: for state machines, which need thousands of steps.

Its drivers exist only as `Submission`s: the test says when each starts, ends, or is forgotten.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


@dataclass
class Submission:
    """A driver that Ray has been asked for."""

    job: str
    attempt: int
    status: str = "PENDING"
    exit_code: int | None = None
    is_stopping: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Ignore a client that died."""


@dataclass
class RayStandIn:
    """The server; `records` are what Ray knows, `drivers` what may still start or run, known or not."""

    records: dict[str, Submission] = field(default_factory=dict)
    drivers: list[Submission] = field(default_factory=list)
    is_reachable: bool = True
    fails_submits: int = 0
    """So many submissions succeed and are answered with an error."""
    on_request: Callable[[str], bool] = lambda _: False
    """Called with `before` and `after` around every request; true drops the request, or its answer."""
    token_file: Path = Path("/dev/null")

    def __enter__(self) -> Self:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet: two of them wait for each other

            def do_GET(self) -> None:
                self._answer(stand_in.get)

            def do_POST(self) -> None:
                self._answer(stand_in.post)

            def _answer(self, handle: Callable[[str, dict[str, Any]], tuple[int, object]]) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                self.close_connection = stand_in.on_request("before")
                if self.close_connection:
                    return
                status, content = handle(self.path, body) if stand_in.is_reachable else (503, {})
                self.close_connection = stand_in.on_request("after")
                if self.close_connection:
                    return
                sent = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def get(self, path: str, _: dict[str, Any]) -> tuple[int, object]:
        """Answer `GET /api/jobs/ID`."""
        found = self.records.get(path.rpartition("/")[2])
        if found is None:
            return 404, {}
        metadata = {"job": found.job, "attempt": str(found.attempt)}
        return 200, {"status": found.status, "driver_exit_code": found.exit_code, "metadata": metadata}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
        """Answer `POST /api/jobs/` and `POST /api/jobs/ID/stop`."""
        if path.endswith("/stop"):
            found = self.records.get(path.split("/")[-2])
            if found is None:
                return 404, {}
            found.is_stopping = True
            if found.status == "PENDING":
                found.status = "STOPPED"
            return 200, {"stopped": True}
        if body["submission_id"] in self.records:
            return 500, {"error": "it exists"}
        made = Submission(body["metadata"]["job"], int(body["metadata"]["attempt"]))
        self.records[body["submission_id"]] = made
        self.drivers.append(made)
        if self.fails_submits:
            self.fails_submits -= 1
            return 500, {"error": "the answer is lost"}
        return 200, {"submission_id": body["submission_id"]}
