"""What KubeRay's operator refuses although its schemas allow it, as its `validation.go` has it (KubeRay 1.7).

Rules about fields that no file of ours has (upgrades, TLS, network policies of its own) are left out: such a field is
refused here, so that its rules are added together with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = {"RayCluster": 53, "RayJob": 47}
NOT_CHECKED = {"tlsOptions", "networkPolicy", "historyServerOptions", "upgradeStrategy"}
RESOURCES_OF_START = {"num-cpus", "num-gpus", "memory", "resources"}
FIRST_WITH_TOKEN = (2, 52, 0)


def refusals(document: Document) -> list[str]:
    """Why the operator would refuse a RayCluster or a RayJob."""
    kind, spec = document["kind"], document["spec"]
    name = document["metadata"]["name"]
    found = []
    if len(name) > LONGEST_NAME[kind] or not DNS_1035.fullmatch(name):
        found.append(f"the name {name} must be a DNS-1035 label of at most {LONGEST_NAME[kind]} characters")
    if kind == "RayCluster":
        return [*found, *_of_cluster(spec)]
    return [*found, *_of_job(spec)]


def _of_job(spec: Document) -> Iterator[str]:
    yield from _of_the_end(spec)
    if "jobId" in spec:
        yield "a fixed jobId would be used again by every retry"
    cluster = spec.get("rayClusterSpec")
    if cluster is None or spec.get("clusterSelector"):
        yield "a job of ours brings its cluster: rayClusterSpec, and no clusterSelector"
        return
    if spec.get("submissionMode") == "SidecarMode":
        if spec.get("submitterPodTemplate") or spec.get("submitterConfig"):
            yield "SidecarMode allows no submitterPodTemplate and no submitterConfig"
        if _pod(cluster["headGroupSpec"]).get("restartPolicy", "Never") != "Never":
            yield "SidecarMode requires that the head's restartPolicy is Never"
    if spec.get("submissionMode") == "InteractiveMode" and spec.get("backoffLimit"):
        yield "InteractiveMode allows no backoffLimit"
    yield from _of_cluster(cluster)


def _of_the_end(spec: Document) -> Iterator[str]:
    if spec.get("ttlSecondsAfterFinished", 0) and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished requires shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) < 0 or spec.get("backoffLimit", 0) < 0:
        yield "ttlSecondsAfterFinished and backoffLimit must not be negative"
    if spec.get("activeDeadlineSeconds", 1) <= 0:
        yield "activeDeadlineSeconds must be positive"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "suspend requires shutdownAfterJobFinishes"
    if spec.get("deletionStrategy"):
        yield "deletionStrategy requires a feature gate"


def _of_cluster(spec: Document) -> Iterator[str]:
    yield from (f"{field} is not checked here" for field in NOT_CHECKED & spec.keys())
    head, workers = spec["headGroupSpec"], spec.get("workerGroupSpecs", [])
    scales = bool(spec.get("enableInTreeAutoscaling"))
    for group in [head, *workers]:
        yield from _of_group(group)
    for group in workers:
        yield from _of_workers(group, scales)
    yield from _of_head(spec, _variables(head), head.get("rayStartParams", {}))
    if scales:
        yield from _of_autoscaler(spec, [head, *workers])
    elif {"1", "true"} & {_variables(head).get("RAY_enable_autoscaler_v2")}:
        yield "RAY_enable_autoscaler_v2 requires enableInTreeAutoscaling"
    yield from _of_token(spec)


def _of_group(group: Document) -> Iterator[str]:
    name, start = group.get("groupName", "head"), group.get("rayStartParams", {})
    if not _pod(group).get("containers"):
        yield f"the group {name} must have a container"
    if group.get("resources") and RESOURCES_OF_START & start.keys():
        yield f"the group {name} must have resources in rayStartParams or in `resources`, not both"
    if "labels" in start:
        yield f"the group {name} must have `labels` of its own, not in rayStartParams"
    if not all(isinstance(value, str) for value in start.values()):
        yield f"the values of rayStartParams of the group {name} must be strings"


def _of_workers(group: Document, scales: bool) -> Iterator[str]:
    name, fewest, most = group["groupName"], group.get("minReplicas"), group.get("maxReplicas")
    if not scales and None in (fewest, most):
        yield f"the group {name} must have minReplicas and maxReplicas, as nothing scales it"
    if (fewest or 0) < 0 or (most or 0) < 0 or (None not in (fewest, most) and fewest > most):
        yield f"`0 <= minReplicas <= maxReplicas` must hold for the group {name}"
    if group.get("suspend"):
        yield f"the group {name} can be suspended with a feature gate only"
    if group.get("idleTimeoutSeconds") is not None and not scales:
        yield f"idleTimeoutSeconds of the group {name} requires the autoscaler"


def _of_head(spec: Document, variables: dict[str, Any], start: Document) -> Iterator[str]:
    tolerance = spec.get("gcsFaultToleranceOptions")
    if tolerance is None and "RAY_REDIS_ADDRESS" in variables:
        yield "RAY_REDIS_ADDRESS requires gcsFaultToleranceOptions"
    if "redis-username" in start or "REDIS_USERNAME" in variables:
        yield "the name of Redis's user must be in gcsFaultToleranceOptions"
    if tolerance is None:
        return
    if "redis-password" in start or {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & variables.keys():
        yield "Redis's address and password must be in gcsFaultToleranceOptions"
    if tolerance.get("backend", "redis") != "redis" or "storage" in tolerance:
        yield "the embedded backend requires a feature gate"


def _of_autoscaler(spec: Document, groups: list[Document]) -> Iterator[str]:
    options = spec.get("autoscalerOptions", {})
    if options.get("version") and "RAY_enable_autoscaler_v2" in _variables(groups[0]):
        yield "the autoscaler's version must be in autoscalerOptions alone"
    if options.get("version") == "v2" and any(_pod(group).get("restartPolicy", "Never") != "Never" for group in groups):
        yield "restartPolicy must be Never, or not given, with the autoscaler's v2"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "idleTimeoutSeconds must not be negative"
    if "KUBERAY_GEN_AUTOSCALER_START_CMD" in {variable["name"] for variable in options.get("env", [])}:
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is the operator's own"


def _of_token(spec: Document) -> Iterator[str]:
    options = spec.get("authOptions", {})
    if options.get("mode") == "token":
        version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", str(spec.get("rayVersion", "")))
        if version is None or tuple(map(int, version.groups())) < FIRST_WITH_TOKEN:
            yield f"a token requires rayVersion 2.52.0 or later, but got {spec.get('rayVersion')}"
    if options.get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth is not supported for a RayJob, and excludes a secretName"


def _pod(group: Document) -> Document:
    pod: Document = group["template"]["spec"]
    return pod


def _variables(group: Document) -> dict[str, Any]:
    containers = _pod(group).get("containers") or [{}]
    return {variable["name"]: variable.get("value") for variable in containers[0].get("env", [])}
