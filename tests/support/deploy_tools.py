"""Programs and schemas that check the files of deploy/; a test is skipped, with the reason, where one is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
INSTALLED = ROOT / ".venv-tools" / "deploy"
HANGS_AFTER_S = 900
Document = dict[str, Any]


def program(name: str) -> str:
    """Path of a program that `.ci/tools` installs, in the version that it pins; not another one of this machine."""
    found = INSTALLED / "bin" / name
    if not found.is_file():
        pytest.skip(f"needs {name}, which .ci/tools installs, but it is missing here")
    return str(found)


def call(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its exit code."""
    environment = os.environ | variables
    return subprocess.run(
        [str(word) for word in words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )


@cache
def rendered(folder: str) -> tuple[Document, ...]:
    """Documents of a folder of deploy/kubernetes, as Kustomize renders them."""
    done = call(program("kubectl"), "kustomize", DEPLOY / "kubernetes" / folder)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def kubernetes_errors(documents: list[Document], folder: Path) -> str:
    """What kubernetes-validate says of documents, apart from those that have been found right."""
    package = INSTALLED / "python"
    if not (package / "kubernetes_validate").is_dir():
        pytest.skip("needs kubernetes-validate, which .ci/tools installs, but it is missing here")
    file = folder / "documents.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    done = call(
        *(sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", "1.36", file),
        PYTHONPATH=str(package),
    )
    assert done.stdout.count("\n") == len(documents), done.stdout + done.stderr
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("INFO"))


def closed(schema: Any) -> Any:
    """A schema of a custom resource as one that refuses unknown keys, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made


def ray_schema(folder: Path, kind: str) -> Any:
    """The closed schema of a kind of KubeRay, of version v1."""
    return closed(json.loads((folder / f"{kind.lower()}.v1.schema.json").read_text()))


MONITORS = ("ServiceMonitor", "PodMonitor")
"""Kinds of Prometheus's operator."""
PRINT_SCHEMAS = f"""
import json
from cloudcoil.models.prometheus_operator import v1
print(json.dumps({{kind: getattr(v1, kind).model_json_schema(by_alias=True) for kind in {MONITORS}}}))
"""


@cache
def monitor_schemas() -> dict[str, Any]:
    """The closed schema of each kind of `MONITORS`, of the classes made from the operator's resource definitions."""
    package = INSTALLED / "python"
    if not (package / "cloudcoil").is_dir():
        pytest.skip("needs the classes of Prometheus's operator, which .ci/tools installs, but they are missing here")
    done = call(sys.executable, "-c", PRINT_SCHEMAS, PYTHONPATH=str(package))
    assert done.returncode == 0, done.stderr
    return {kind: closed(schema) for kind, schema in json.loads(done.stdout).items()}
