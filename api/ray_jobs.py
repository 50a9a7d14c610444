"""Ray's Jobs API over plain HTTP, with timeouts.

Ray's own client blocks, has no timeouts, and prefers the address in the environment to its argument. For an unknown
id the API answers 404, for a duplicate one 500.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from api.settings import Settings
from api.state import Backend
from mcl_ray.jobs.messages import JobSpec
from mcl_ray.jobs.states import EXIT_FENCED

TIMEOUT = httpx.Timeout(10.0, connect=3.0)
SUBMIT_TIMEOUT = httpx.Timeout(30.0, connect=3.0)
"""The first submission after the start of a head takes longer."""
STATES: dict[str, Backend] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "STOPPED": "stopped",
    "SUCCEEDED": "succeeded",
    "FAILED": "died",
}
DRIVER_ENVIRONMENT = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": "60",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}
COMPUTES_IN_DRIVER = ("train", "linear", "export", "evaluate")


class RayError(Exception):
    """Ray cannot be used; the message says why."""


class Answer(NamedTuple):
    """Answer of Ray about an attempt."""

    backend: Backend
    detail: str = ""


class RayJobs:
    """A client of the Jobs API of one cluster."""

    def __init__(self, settings: Settings, root: str) -> None:
        self._settings, self._root = settings, root
        self.url = settings.address
        is_encrypted = self.url.startswith("https:")  # else no certificates are loaded, which take 3 MB of memory
        headers = _credentials(settings)
        self._http = httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT, headers=headers, verify=is_encrypted)
        self._is_checked = settings.allow_open_ray

    async def look(self, submission_id: str, job: str) -> Answer:
        """Return what Ray knows of an attempt; a Ray that does not answer is an answer too."""
        try:
            answer = await self._ask("GET", f"/api/jobs/{submission_id}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return Answer("absent")
            info = _checked(answer).json()
            if (info.get("metadata") or {}).get("job") != job:
                return Answer("foreign", "Ray has a record of this id that is not of this service")
            return _answer(info)
        except (RayError, ValueError, AttributeError) as error:
            return Answer("unreachable", f"{type(error).__name__}: {error}"[:300])

    async def submit(self, submission_id: str, job: str, attempt: int, spec: JobSpec) -> None:
        """Ask Ray to start the driver of an attempt.

        Raises:
            RayError: it refuses; the attempt may have been taken on all the same.
        """
        words = [*shlex.split(self._settings.driver), "--root", self._root, "--job", job, "--attempt", str(attempt)]
        body = {
            "submission_id": submission_id,
            "entrypoint": shlex.join(words),
            "metadata": {"job": job, "attempt": str(attempt), "spec": spec.digest},
            "runtime_env": {"env_vars": DRIVER_ENVIRONMENT},
        }
        _checked(await self._ask("POST", "/api/jobs/", body | self._resources(spec), SUBMIT_TIMEOUT))

    async def stop(self, submission_id: str) -> None:
        """Ask Ray to stop an attempt: SIGINT, and SIGKILL a minute later.

        Raises:
            RayError: it refuses.
        """
        _checked(await self._ask("POST", f"/api/jobs/{submission_id}/stop"))

    async def check_ready(self) -> None:
        """Raise an error unless Ray answers.

        Raises:
            RayError: it does not, or answers without a token.
        """
        _checked(await self._ask("GET", "/api/version"))

    async def check_protected(self) -> None:
        """Refuse a Ray that answers without a token: it would run any user's code.

        Raises:
            RayError: it answers without a token, or does not take ours.
        """
        if self._is_checked:
            return
        refused = (await self._http.get("/api/jobs/", headers={"Authorization": ""})).status_code
        if refused not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RayError(
                f"a Ray cluster must refuse requests without a token (RAY_AUTH_MODE=token), but {self.url} answered "
                f"{refused}; `allow_open_ray` accepts that"
            )
        if (taken := (await self._http.get("/api/version")).status_code) != httpx.codes.OK:
            raise RayError(f"Ray must accept this service's token, but {self.url} answered {taken}")
        self._is_checked = True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, timeout: httpx.Timeout = TIMEOUT
    ) -> httpx.Response:
        """Return the answer to a request, which only a protected Ray is sent."""
        try:
            await self.check_protected()
            return await self._http.request(method, path, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise RayError(f"Ray must answer at {self.url}, but: {type(error).__name__}: {error}") from error

    def _resources(self, spec: JobSpec) -> dict[str, Any]:
        """Return what the driver asks for: its computation, or as much as keeps it off the head."""
        execution = spec.request.execution
        if spec.request.kind in COMPUTES_IN_DRIVER and execution.workers is None:
            return {
                "entrypoint_num_cpus": execution.cpus_per_worker,
                "entrypoint_num_gpus": execution.gpus_per_worker or 0,
            }
        if self._settings.driver_resource:
            return {"entrypoint_resources": {self._settings.driver_resource: 0.001}}
        return {"entrypoint_num_cpus": 0.01}


def _checked(answer: httpx.Response) -> httpx.Response:
    """Return an answer that is a success.

    Raises:
        RayError: it is none.
    """
    if not answer.is_success:
        raise RayError(f"Ray answered {answer.status_code}: {answer.text[-300:]}")
    return answer


def _answer(info: dict[str, Any]) -> Answer:
    backend, code = STATES.get(str(info["status"]), "unreachable"), info.get("driver_exit_code")
    if backend == "died" and isinstance(code, int) and 0 < code < 128:  # 137 is a SIGKILL that a shell reports
        backend = "fenced" if code == EXIT_FENCED else "failed"
    if backend == "failed":
        return Answer(backend, f"the driver exited with code {code}")
    kind = info.get("error_type") or ""
    return Answer(backend, f"the driver ended with {code}{f' ({kind})' if kind else ''}" if backend == "died" else "")


def _credentials(settings: Settings) -> dict[str, str]:
    token = settings.ray_token_file.read_text() if settings.ray_token_file else os.environ.get("RAY_AUTH_TOKEN", "")
    default = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if not token and default.is_file():
        token = default.read_text()
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}  # Ray refuses "bearer"
