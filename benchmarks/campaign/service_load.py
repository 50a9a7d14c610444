"""Load of the service: a client that submits, repeats, cancels and watches, and logs the answers."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

MOST_LIVE = 12
"""Jobs that have not ended, as far as this client knows."""
LABELS = ("", "sleep 2", "sleep 4", "sleep 7", "sleep 11", "fail", "interrupted once", "kill me once")
"""Work of the light driver; ends that it gives itself come on top of the kills."""
REPEATED, CANCELLED = 0.3, 0.15
"""Part of the requests that are sent again, and of the jobs that are cancelled."""
PAUSE_S = 0.1


class Load:
    """Two threads: one submits, repeats and cancels, the other looks."""

    def __init__(self, urls: Sequence[str], api_key: str, log: Path, seed: int) -> None:
        self._urls, self._seed = [url.rstrip("/") for url in urls], seed
        self._descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o640)
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._live: dict[str, tuple[str, int]] = {}
        self.num_accepted = self.num_answers = self.num_errors = 0
        self.failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._work, args=(work,)) for work in (self._submit, self._watch)]
        for thread in self._threads:
            thread.start()

    @property
    def num_live(self) -> int:
        """Accepted jobs that were not yet seen in a terminal state."""
        return len(self._live)

    def stop(self) -> None:
        """Submit nothing more, and go on looking."""
        self._stopped.set()
        self._threads[0].join()

    def close(self) -> None:
        """Stop looking."""
        self._stopped.set()
        self._ended.set()
        for thread in self._threads:
            thread.join()
        os.close(self._descriptor)

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # the campaign raises it
            self.failures.append(error)

    def _log(self, what: str, **facts: object) -> None:
        os.write(self._descriptor, f"{json.dumps({'what': what, 'at': time.time()} | facts)}\n".encode())

    def _submit(self) -> None:
        choice = random.Random(self._seed)  # noqa: S311  # repeatable
        number, cancels = 0, list[tuple[float, str]]()
        with httpx.Client(headers=self._headers, timeout=30) as http:
            while not self._stopped.is_set():
                if len(self._live) < MOST_LIVE:
                    number += 1
                    job = self._accept(http, choice, f"{self._seed}-{number}", choice.choice(LABELS))
                    if job and choice.random() < CANCELLED:
                        cancels.append((time.monotonic() + choice.uniform(0, 10), job))
                for item in [item for item in cancels if item[0] < time.monotonic()]:
                    cancels.remove(item)
                    self._cancel(http, choice, item[1])
                self._stopped.wait(PAUSE_S)

    def _accept(self, http: httpx.Client, choice: random.Random, key: str, label: str) -> str | None:
        """Send a request until it is accepted, and some of them once more."""
        ends = "failed" if label == "fail" else "succeeded"
        job = None
        for _ in range(2 if choice.random() < REPEATED else 1):
            body = {"kind": "sweep", "name": "digits", "label": label}
            answer = self._send(http, choice, "/jobs", body, {"Idempotency-Key": key})
            if answer is None:
                return job
            assert answer.status_code == httpx.codes.ACCEPTED, answer.text
            job = str(answer.json()["id"])
            self._log("accepted", key=key, job=job, ends=ends)
            self._live.setdefault(job, ("queued", 1))
        self.num_accepted += 1
        return job

    def _cancel(self, http: httpx.Client, choice: random.Random, job: str) -> None:
        answer = self._send(http, choice, f"/jobs/{job}/cancel", None, {})
        if answer is not None and answer.status_code == httpx.codes.ACCEPTED:
            self._log("cancelled", job=job)

    def _send(
        self, http: httpx.Client, choice: random.Random, path: str, body: Any, headers: dict[str, str]
    ) -> httpx.Response | None:
        """Return the answer to a request, which is sent until there is one; None once the load has stopped."""
        while not self._stopped.is_set():
            try:
                answer = http.post(f"{choice.choice(self._urls)}{path}", json=body, headers=headers)
            except httpx.TransportError:
                self._stopped.wait(PAUSE_S)
                continue
            self._count(answer)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            self._stopped.wait(PAUSE_S)
        return None

    def _watch(self) -> None:
        choice = random.Random(self._seed + 1)  # noqa: S311  # repeatable
        with httpx.Client(headers=self._headers, timeout=30) as http:
            while not self._ended.wait(3 * PAUSE_S):
                try:
                    answer = http.get(f"{choice.choice(self._urls)}/jobs", params={"page_size": 100})
                except httpx.TransportError:
                    continue
                self._count(answer)
                for job in answer.json()["jobs"] if answer.is_success else []:
                    self._see(job)

    def _see(self, job: dict[str, Any]) -> None:
        known, found = self._live.get(job["id"]), (str(job["state"]), int(job["attempt"]))
        if known is None or found == known:
            return
        self._log("seen", job=job["id"], state=found[0], attempt=found[1])
        if found[0] in ("succeeded", "failed", "cancelled"):
            del self._live[job["id"]]
        else:
            self._live[job["id"]] = found

    def _count(self, answer: httpx.Response) -> None:
        self.num_answers += 1
        self.num_errors += answer.status_code >= 500 and answer.status_code != httpx.codes.SERVICE_UNAVAILABLE
