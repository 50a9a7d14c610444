"""Random requests after the application's own OpenAPI: no answer is a 5xx, and none is outside of the schema."""

import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from api.monitoring import REQUESTS

EXAMPLES = int(os.environ.get("MCL_SCHEMA_EXAMPLES", "15"))
"""Cases of each endpoint at most; an endpoint without parameters has one. The number that was run is printed (-s)."""
ONLY = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
FRAMING = ("Content-Length", "Transfer-Encoding")
"""Headers that say where a request ends: with other values it is no request of HTTP, and reaches no application."""

SCHEMA = Path(__file__).parents[2] / "api" / "openapi.json"
schema = schemathesis.openapi.from_path(SCHEMA)


@pytest.fixture(scope="module")
def admin(shared):
    yield shared.headers("fuzz", "admin")
    print(f"{sum(sample.value for sample in _samples() if sample.name.endswith('_seconds_count')):.0f} requests")  # noqa: T201


def _samples():
    return [sample for metric in REQUESTS.collect() for sample in metric.samples]


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_in_the_schema(case, shared, admin):
    if case.operation.path.endswith("/events"):
        pytest.skip("a stream of a job that has not ended does not end")
    unready = case.operation.path == "/readyz"  # there is no Ray
    checks = [check for check in CHECKS.get_all() if check.__name__ in ONLY[unready:]]
    assert len(checks) == len(ONLY) - unready
    for name in FRAMING:
        case.headers.pop(name, None)
    case.call_and_validate(base_url=str(shared.http.base_url), headers=admin, checks=checks)
