"""The metrics of the service, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api import jobs
from api.database import Database

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "mcl_service_request_seconds", "Time of a request.", ["method", "path", "status"], registry=REGISTRY
)
STEPS = Counter("mcl_service_steps_total", "Steps of the reconciler, by effect.", ["effect"], registry=REGISTRY)
ATTEMPTS = Counter("mcl_service_attempts_total", "Attempts submitted to Ray.", registry=REGISTRY)
LOST = Counter("mcl_service_lost_attempts_total", "Attempts that a failure of a machine ended.", registry=REGISTRY)


class JobCollector(Collector):
    """Reads the state of the queue when Prometheus asks; of a database that is away, nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of the queue."""
        count = GaugeMetricFamily("mcl_service_jobs", "Jobs that have not ended, by state.", labels=["state"])
        age = GaugeMetricFamily(
            "mcl_service_oldest_job_seconds", "Age of the oldest job, by state; 0 without one.", labels=["state"]
        )
        late = GaugeMetricFamily("mcl_service_reconcile_lag_seconds", "Delay of the reconciler.")
        try:
            for state, (number, oldest_s) in jobs.counts(self._database).items():
                count.add_metric([state], number)
                age.add_metric([state], oldest_s)
            late.add_metric([], jobs.overdue(self._database))
        except Exception as error:
            structlog.get_logger().warning("metrics_failed", error=f"{type(error).__name__}: {error}"[:300])
            return
        yield from (count, age, late)
