"""The metrics of the service, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api import jobs
from api.database import Database

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "mcl_service_request_seconds", "Time of a request.", ["method", "path", "status"], registry=REGISTRY
)
STEPS = Counter("mcl_service_steps_total", "Steps of the reconciler, by effect.", ["effect"], registry=REGISTRY)
ATTEMPTS = Counter("mcl_service_attempts_total", "Attempts submitted to Ray.", registry=REGISTRY)
LOST = Counter("mcl_service_lost_attempts_total", "Attempts that a failure of a machine ended.", registry=REGISTRY)
JOBS = Gauge("mcl_service_jobs", "Jobs that have not ended, by state.", ["state"], registry=REGISTRY)
AGES = Gauge(
    "mcl_service_oldest_job_seconds", "Age of the oldest job, by state; 0 without one.", ["state"], registry=REGISTRY
)
LAG = Gauge("mcl_service_reconcile_lag_seconds", "Delay of the reconciler.", registry=REGISTRY)


def exposition(database: Database) -> bytes:
    """Return all metrics as Prometheus reads them; those of the queue are read from the database now."""
    for state, (number, oldest_s) in jobs.counts(database).items():
        JOBS.labels(state).set(number)
        AGES.labels(state).set(oldest_s)
    LAG.set(jobs.overdue(database))
    return generate_latest(REGISTRY)
