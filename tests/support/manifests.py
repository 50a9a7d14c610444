"""Manifests of deploy/kubernetes as Kustomize renders them, and what tests ask of them."""

from __future__ import annotations

import re

from tests.support.deploy_tools import DEPLOY, rendered

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(f"overlays/{path.name}" for path in (KUBERNETES / "overlays").iterdir())
FOLDERS = [*OVERLAYS, "samples"]
README = (KUBERNETES / "README.md").read_text()
POD_IP = "10.1.2.3"
RAY_PORTS = {6379, 8265, 10001}


def of_kind(folder, *kinds):
    return [document for document in rendered(folder) if document["kind"] in kinds]


def one(folder, kind, name):
    (found,) = [document for document in of_kind(folder, kind) if document["metadata"]["name"] == name]
    return found


def ray_groups(folder):
    """Groups of each RayCluster, and of the cluster of each RayJob."""
    for document in of_kind(folder, "RayCluster", "RayJob"):
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        yield from [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods(folder):
    """Pod templates of all that makes pods."""
    kinds = of_kind(folder, "Deployment", "StatefulSet", "Job")
    return [document["spec"]["template"] for document in kinds] + [group["template"] for group in ray_groups(folder)]


def containers(folder):
    return [container for pod in pods(folder) for container in pod["spec"]["containers"]]


def below(value, key):
    """Values of a key, at any depth."""
    if isinstance(value, list):
        return [found for part in value for found in below(part, key)]
    if not isinstance(value, dict):
        return []
    return [*([value[key]] if key in value else []), *(found for part in value.values() for found in below(part, key))]


def variables(folder, container):
    """Variables of a container as Kubernetes sets them, with a stand-in for what only a secret has."""
    found = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            found |= one(folder, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            value = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], variable["value"])
        elif "fieldRef" in variable["valueFrom"]:
            value = POD_IP
        else:
            value = "postgresql+psycopg://db.example/mcl"
        found[variable["name"]] = value
    return found


def api_variables(folder):
    return variables(folder, one(folder, "Deployment", "mcl-api")["spec"]["template"]["spec"]["containers"][0])
