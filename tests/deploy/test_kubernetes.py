"""The manifests of deploy/kubernetes: each overlay renders, is valid, and agrees with itself."""

from __future__ import annotations

import copy
import re
import shutil

import jsonschema
import pytest
import yaml

from tests.support.deploy_tools import MONITORS, call, kubernetes_errors, monitor_schemas, ray_schema, rendered
from tests.support.deploy_tools import program as tool
from tests.support.kuberay_rules import refusals
from tests.support.manifests import (
    FOLDERS,
    KUBERNETES,
    OVERLAYS,
    RAY_PORTS,
    README,
    below,
    of_kind,
    one,
    pods,
    ray_groups,
)


def test_there_are_three_overlays_and_samples():
    assert OVERLAYS == ["overlays/gpu", "overlays/local", "overlays/spot"]
    assert [job["metadata"]["name"] for job in of_kind("samples", "RayJob")] == ["mcl-cifar-sweep", "mcl-imagenet"]


def test_every_document_of_kubernetes_is_valid(folder, tmp_path):
    own = [document for document in rendered(folder) if "ray.io" not in document["apiVersion"]]
    documents = [document for document in own if document["kind"] not in MONITORS]
    assert len(documents) >= (10 if folder in OVERLAYS else 2)
    assert kubernetes_errors(documents, tmp_path) == ""


def test_a_wrong_key_is_found(tmp_path):
    wrong = copy.deepcopy(one("overlays/gpu", "Deployment", "mcl-api"))
    wrong["spec"]["template"]["spec"]["containers"][0]["image_pull_policy"] = "Always"
    assert "image_pull_policy" in kubernetes_errors([wrong], tmp_path)


def test_every_document_of_ray_fits_the_schema_of_kuberay(folder, reference_dir):
    for document in of_kind(folder, "RayCluster", "RayJob"):
        validator = jsonschema.Draft202012Validator(ray_schema(reference_dir / "kuberay", document["kind"]))
        assert [error.message for error in validator.iter_errors(document)] == []
        for path in (("spec", "rayversion"), ("spec", "rayClusterSpec", "headGroupSpec", "templates")):
            wrong = changed(document, path, "2.60.0")
            assert not validator.is_valid(wrong), "unknown keys are refused"


@pytest.mark.slow
def test_every_monitor_fits_the_schema_of_the_operator_of_prometheus():
    seen = set()
    for document in [found for overlay in OVERLAYS for found in of_kind(overlay, *MONITORS)]:
        seen.add(document["kind"])
        (list_,) = {"endpoints", "podMetricsEndpoints"} & document["spec"].keys()
        validator = jsonschema.Draft202012Validator(monitor_schemas()[document["kind"]])
        assert [error.message for error in validator.iter_errors(document)] == []
        for path, value in (
            (("spec", "selectors"), {}),
            (("spec", list_, 0, "scrapeInterval"), "15s"),
            (("spec", list_, 0, "interval"), "15 seconds"),
            (("spec", list_, 0, "scheme"), "tcp"),
            (("spec", "selector"), None),
        ):
            assert not validator.is_valid(changed(document, path, value)), path
    assert seen == {*MONITORS}


def test_the_operator_of_kuberay_refuses_nothing(folder):
    assert of_kind(folder, "RayCluster", "RayJob")
    for document in of_kind(folder, "RayCluster", "RayJob"):
        assert refusals(document) == []


def changed(document, path, value):
    """A copy of a document with another value at a path; None removes it."""
    made = copy.deepcopy(document)
    *parents, last = path
    place = made
    for step in parents:
        place = place[step] if isinstance(place, list) else place.setdefault(step, {})
    place[last] = value
    if value is None:
        del place[last]
    return made


CONTAINER = ("spec", "headGroupSpec", "template", "spec", "containers", 0)


WORKERS = ("spec", "workerGroupSpecs", 1)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("metadata", "name"), "1-cluster", "DNS-1035"),
        (("metadata", "name"), "m" * 54, "DNS-1035"),
        (("spec", "rayVersion"), None, "2.52.0 or later"),
        (("spec", "rayVersion"), "2.51.9", "2.52.0 or later"),
        ((*CONTAINER, "env"), [{"name": "RAY_REDIS_ADDRESS", "value": "redis"}], "gcsFaultToleranceOptions"),
        ((*CONTAINER, "env"), [{"name": "REDIS_PASSWORD", "value": "redis"}], "gcsFaultToleranceOptions"),
        ((*CONTAINER, "env"), [{"name": "RAY_enable_autoscaler_v2", "value": "1"}], "enableInTreeAutoscaling"),
        (("spec", "headGroupSpec", "rayStartParams", "redis-password"), "x", "gcsFaultToleranceOptions"),
        (("spec", "headGroupSpec", "resources"), {"CPU": "1"}, "not both"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "strings"),
        ((*WORKERS, "minReplicas"), None, "nothing scales it"),
        ((*WORKERS, "minReplicas"), 9, "minReplicas <= maxReplicas"),
        ((*WORKERS, "suspend"), True, "feature gate"),
        ((*WORKERS, "rayStartParams", "labels"), "a=b", "of its own"),
        ((*WORKERS, "template", "spec", "containers"), [], "must have a container"),
        (("spec", "gcsFaultToleranceOptions", "backend"), "rocksdb", "feature gate"),
        (("spec", "authOptions", "enableK8sTokenAuth"), True, "enableK8sTokenAuth"),
        (("spec", "tlsOptions"), {"enabled": True}, "not checked here"),
    ],
)
def test_what_the_operator_refuses_is_found(path, value, words):
    cluster = one("overlays/local", "RayCluster", "mcl")
    assert any(words in refusal for refusal in refusals(changed(cluster, path, value)))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("shutdownAfterJobFinishes",), False, "requires shutdownAfterJobFinishes"),
        (("backoffLimit",), -1, "negative"),
        (("submitterPodTemplate",), {"spec": {}}, "no submitterPodTemplate"),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolicy"), "Always", "is Never"),
        (("clusterSelector",), {"ray.io/cluster": "mcl"}, "brings its cluster"),
        (("deletionStrategy",), {"deletionRules": []}, "feature gate"),
        (("suspend",), True, None),
        (("rayClusterSpec", "upgradeStrategy"), {"type": "Recreate"}, "not checked here"),
        (("jobId",), "fixed", "every retry"),
    ],
)
def test_what_the_operator_refuses_of_a_job_is_found(path, value, words):
    job = one("samples", "RayJob", "mcl-imagenet")
    found = refusals(changed(job, ("spec", *path), value))
    assert any(words in refusal for refusal in found) if words else found == []


def test_every_name_that_is_referred_to_exists(folder):
    made = {(document["kind"], document["metadata"]["name"]) for document in rendered(folder)}
    secrets = set(re.findall(r"^\| `([\w-]+)` \| `", README, re.MULTILINE))
    documents = [document for document in rendered(folder) if document["kind"] not in MONITORS]
    maps = {found["name"] for key in ("configMapRef", "configMapKeyRef") for found in below(documents, key)}
    assert maps
    assert {("ConfigMap", name) for name in maps} <= made
    named = {found["name"] for key in ("secretRef", "secretKeyRef") for found in below(documents, key)}
    named |= {*below(documents, "secretName")}
    assert {name for name in named if ("Secret", name) not in made} <= secrets
    if folder in OVERLAYS:
        assert {("ServiceAccount", name) for name in below(documents, "serviceAccountName")} <= made
        assert {("PersistentVolumeClaim", name) for name in below(documents, "claimName")} <= made


def test_the_readme_lists_each_secret_with_its_keys():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ((?:`[\w.]+`(?:, )?)+) \|", README, re.MULTILINE))
    listed = {name: set(re.findall(r"`([\w.]+)`", keys)) for name, keys in rows.items()}
    needed = {}
    for document in rendered("overlays/gpu"):
        for found in [*below(document, "secretKeyRef"), *below(document, "credentials")]:
            needed.setdefault(found["name"], set()).add(found["key"])
        for volume in [volume for volume in below(document, "secret") if isinstance(volume, dict)]:
            needed[volume["secretName"]] = {item["key"] for item in volume["items"]}
    needed["mcl-store"] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    needed["mcl-tls"] = {"tls.crt", "tls.key"}
    assert listed == needed


def test_generated_names_are_rewritten_inside_of_ray_templates(tmp_path):
    """Kustomize rewrites them by deploy/kubernetes/references alone: without it, they would lack their hash."""
    expected = {found["name"] for found in below(of_kind("overlays/local", "RayCluster"), "configMapRef")}
    assert [bool(re.fullmatch(r"mcl-store-\w{10}", name)) for name in expected] == [True]
    (password,) = below(of_kind("overlays/local", "RayCluster"), "redisPassword")
    assert re.fullmatch(r"mcl-redis-\w{10}", password["valueFrom"]["secretKeyRef"]["name"])
    copied = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (copied / "references" / "kuberay.yaml").write_text("nameReference: []\n")
    done = call(tool("kubectl"), "kustomize", copied / "overlays" / "local")
    (cluster,) = [found for found in yaml.safe_load_all(done.stdout) if found["kind"] == "RayCluster"]
    assert {found["name"] for found in below(cluster, "configMapRef")} == {"mcl-store"}


def test_every_pod_of_ours_meets_the_restricted_profile(folder):
    for pod in pods(folder):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys() & container["resources"][
                "limits"
            ].keys()


def test_services_set_no_variables_that_settings_read(folder):
    """A service named `mcl` would set MCL_PORT in every pod that does not refuse it."""
    for pod in pods(folder):
        assert pod["spec"]["enableServiceLinks"] is False


def test_no_pod_has_a_token_of_kubernetes_but_the_autoscaler(folder):
    for document in of_kind(folder, "ServiceAccount"):
        assert document["automountServiceAccountToken"] is False
    scaled = [found for found in of_kind(folder, "RayCluster") if found["spec"].get("enableInTreeAutoscaling")]
    heads = [found["spec"]["headGroupSpec"]["template"]["spec"] for found in scaled]
    assert len(heads) == (1 if folder in ("overlays/gpu", "overlays/spot") else 0)
    for pod in (pod["spec"] for pod in pods(folder)):
        if pod in heads:  # KubeRay gives it an account that may change the number of pods
            assert not {"serviceAccountName", "automountServiceAccountToken"} & pod.keys()
        else:
            assert pod["automountServiceAccountToken"] is False


def test_services_budgets_and_scalers_select_pods_that_exist(overlay):
    labels = [pod["metadata"]["labels"] for pod in pods(overlay)]
    selectors = [document["spec"]["selector"] for document in of_kind(overlay, "Service")]
    selectors += [document["spec"]["selector"]["matchLabels"] for document in of_kind(overlay, "PodDisruptionBudget")]
    for selector in selectors:
        assert sum(selector.items() <= found.items() for found in labels) == 1
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert one(overlay, target["kind"], target["name"])["spec"]["replicas"] >= scaler["spec"]["minReplicas"] > 1
        (budget,) = of_kind(overlay, "PodDisruptionBudget")
        assert budget["spec"]["minAvailable"] < scaler["spec"]["minReplicas"]


def test_named_ports_exist(overlay):
    for service in of_kind(overlay, "Service"):
        (pod,) = [
            pod for pod in pods(overlay) if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    services = {service["metadata"]["name"]: service for service in of_kind(overlay, "Service")}
    redis = one(overlay, "RayCluster", "mcl")["spec"]["gcsFaultToleranceOptions"]["redisAddress"]
    name, _, port = redis.partition(":")
    assert services[name]["spec"]["ports"][0]["port"] == int(port)


def test_prometheus_reads_the_metrics_that_there_are(overlay):
    if overlay == "overlays/local":
        assert of_kind(overlay, *MONITORS) == []
        return
    (service,), (ray,) = of_kind(overlay, "ServiceMonitor"), of_kind(overlay, "PodMonitor")
    (endpoint,) = service["spec"]["endpoints"]
    api = one(overlay, "Service", "mcl-api")
    assert service["spec"]["selector"]["matchLabels"].items() <= api["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in api["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    assert endpoint["authorization"] == {"credentials": {"name": "mcl-metrics", "key": "api_key"}}
    (endpoint,) = ray["spec"]["podMetricsEndpoints"]
    for group in ray_groups(overlay):
        (port,) = [port for port in group["template"]["spec"]["containers"][0]["ports"] if port["name"] == "metrics"]
        assert port["containerPort"] == 8080
    assert endpoint["port"] == "metrics"
    assert ray["spec"]["selector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}


def reaches(rules, port):
    """The senders of rules of a policy that open a port."""
    return [
        sender
        for rule in rules
        if port in [opened["port"] for opened in rule.get("ports", [])] or "ports" not in rule
        for sender in rule["from"]
    ]


@pytest.mark.parametrize("port", sorted(RAY_PORTS))
def test_only_the_service_and_ray_itself_reach_the_ports_of_ray(overlay, port):
    policies = [policy["spec"] for policy in of_kind(overlay, "NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress"]} in policies, "what no rule opens is closed"
    head = {"ray.io/cluster": "mcl", "ray.io/node-type": "head", "ray.io/is-ray-node": "yes"}
    (ray,) = (found["metadata"]["labels"] for found in of_kind(overlay, "RayCluster"))
    opened = []
    for policy in policies:
        labels = policy["podSelector"].get("matchLabels", {})
        if labels.items() <= (head | ray).items() and "matchExpressions" not in policy["podSelector"]:
            opened += reaches(policy.get("ingress", []), port)
    api = one(overlay, "Deployment", "mcl-api")["spec"]["template"]["metadata"]["labels"]
    expected = [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]
    expected += [{"podSelector": {"matchLabels": api}}] * (port == 8265)
    assert opened == expected


def test_every_file_is_rendered():
    """A manifest that no kustomization names would be checked by nothing."""
    for folder in (path.parent for path in KUBERNETES.rglob("kustomization.yaml")):
        text = (folder / "kustomization.yaml").read_text()
        for file in folder.glob("*.yaml"):
            assert file.name == "kustomization.yaml" or f" {file.name}\n" in text, file
    assert {path.parent for path in KUBERNETES.rglob("*.yaml")} == {
        path.parent for path in KUBERNETES.rglob("kustomization.yaml")
    }


def test_documents_are_unique():
    for folder in FOLDERS:
        keys = [(document["kind"], document["metadata"]["name"]) for document in rendered(folder)]
        assert len(keys) == len({*keys})
        namespaces = {document["metadata"].get("namespace") for document in rendered(folder)} - {None}
        assert namespaces == {"mcl"}
