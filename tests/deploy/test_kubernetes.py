"""The manifests of deploy/kubernetes: each overlay renders, is valid, agrees with itself and with the code."""

from __future__ import annotations

import base64
import copy
import json
import re
import shlex
import shutil
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

import mcl_ray
from api.settings import Settings
from mcl_ray.cli import app, sweep, train
from mcl_ray.cli.serve import program
from tests.support.deploy_tools import DEPLOY, ROOT, call, kubernetes_errors, ray_schema, rendered
from tests.support.deploy_tools import program as tool
from tests.support.kuberay_rules import refusals

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(f"overlays/{path.name}" for path in (KUBERNETES / "overlays").iterdir())
FOLDERS = [*OVERLAYS, "samples"]
README = (KUBERNETES / "README.md").read_text()
POD_IP = "10.1.2.3"
RAY_PORTS = {6379, 8265, 10001}
WITHOUT_SCHEMA = {"ServiceMonitor", "PodMonitor"}
"""Of Prometheus's operator, whose schemas are not at hand; the tests below read each of their fields."""
SET_BY_KUBERAY = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
DRIVER = 0.001
"""What a driver takes of `driver_resource`, by api/ray_jobs.py."""


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


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture(params=FOLDERS)
def folder(request):
    return request.param


def test_there_are_three_overlays_and_samples():
    assert OVERLAYS == ["overlays/gpu", "overlays/local", "overlays/spot"]
    assert [job["metadata"]["name"] for job in of_kind("samples", "RayJob")] == ["mcl-cifar-sweep", "mcl-imagenet"]


def test_every_document_of_kubernetes_is_valid(folder, tmp_path):
    own = [document for document in rendered(folder) if "ray.io" not in document["apiVersion"]]
    documents = [document for document in own if document["kind"] not in WITHOUT_SCHEMA]
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


def test_ray_asks_for_its_token_and_the_service_has_it(overlay):
    cluster = one(overlay, "RayCluster", "mcl")
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    for group in ray_groups(overlay):
        assert not SET_BY_KUBERAY & {variable["name"] for variable in below(group, "env")}
    pod = one(overlay, "Deployment", "mcl-api")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume.get("secret")]
    assert volume["secret"] == {
        "secretName": cluster["metadata"]["name"],
        "items": [{"key": "auth_token", "path": "auth_token"}],
    }
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    assert api_variables(overlay)["MCL_RAY_TOKEN_FILE"] == f"{mount['mountPath']}/auth_token"
    assert mount["readOnly"] is True
    for job in of_kind("samples", "RayJob"):
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_version_of_ray_is_the_pinned_one(folder):
    (pinned,) = re.findall(r"^ray==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(below(of_kind(folder, "RayCluster", "RayJob"), "rayVersion")) == {pinned}


def test_images_are_ours_of_this_version_or_pinned(folder):
    version = mcl_ray.__version__
    images = {container["image"] for container in containers(folder)}
    ours = {image for image in images if image.startswith("mcl-ray-")}
    assert ours == {f"mcl-ray-train:{version}"} | ({f"mcl-ray-api:{version}"} if folder in OVERLAYS else set())
    assert all(re.fullmatch(r"docker\.io/library/(redis|postgres):[\d.]+", image) for image in images - ours)


def test_the_settings_of_the_service_are_valid(overlay, monkeypatch):
    given = api_variables(overlay)
    known = {f"MCL_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in given if name.startswith("MCL_")} <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    pod = one(overlay, "Deployment", "mcl-api")["spec"]["template"]["spec"]
    assert settings.port == pod["containers"][0]["ports"][0]["containerPort"]
    assert settings.host == "0.0.0.0"
    assert {POD_IP, "localhost"} <= {*settings.hosts}, "probes and Prometheus address a pod by its IP"
    assert settings.shutdown_s < pod["terminationGracePeriodSeconds"]
    assert (settings.insecure_local, settings.allow_open_ray, settings.no_reconciler) == (False, False, False)
    assert settings.database_url
    cluster = one(overlay, "RayCluster", "mcl")
    assert settings.address == f"http://{cluster['metadata']['name']}-head-svc:8265"
    ports = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["containerPort"] for port in ports} == RAY_PORTS | {8080}


def test_drivers_have_nodes_of_their_own(overlay):
    given, cluster = api_variables(overlay), one(overlay, "RayCluster", "mcl")["spec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    amounts = {
        group["groupName"]: json.loads(json.loads(group["rayStartParams"]["resources"]))
        for group in cluster["workerGroupSpecs"]
        if "resources" in group["rayStartParams"]
    }
    assert amounts["drivers"][given["MCL_DRIVER_RESOURCE"]] >= int(given["MCL_MAX_RUNNING"]) * DRIVER
    assert [group["rayStartParams"].get("num-cpus") for group in cluster["workerGroupSpecs"]] == ["0", None]


def test_the_service_and_every_node_have_the_same_store(overlay):
    """Results are in a store, or in a volume that all of them mount at the same path."""
    names = ("MCL_RESULTS", "MCL_DATA", "AWS_REGION")
    service = api_variables(overlay)
    for group in ray_groups(overlay):
        container = group["template"]["spec"]["containers"][0]
        node = variables(overlay, container)
        assert [node[name] for name in names] == [service[name] for name in names]
        for path in (service["MCL_RESULTS"], service["MCL_DATA"]):
            mounts = [mount for mount in container["volumeMounts"] if path.startswith(mount["mountPath"] + "/")]
            assert path.startswith("s3://") or mounts
    api = one(overlay, "Deployment", "mcl-api")["spec"]["template"]["spec"]
    claims = {tuple(sorted(set(below(pod, "claimName")))) for pod in [api, *ray_groups(overlay)]}
    assert len(claims) == 1


def test_every_name_that_is_referred_to_exists(folder):
    made = {(document["kind"], document["metadata"]["name"]) for document in rendered(folder)}
    secrets = set(re.findall(r"^\| `([\w-]+)` \| `", README, re.MULTILINE))
    documents = [document for document in rendered(folder) if document["kind"] not in WITHOUT_SCHEMA]
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


def test_the_ingress_serves_the_host_that_the_service_accepts_by_tls(overlay):
    ingresses = of_kind(overlay, "Ingress")
    assert bool(ingresses) == (overlay != "overlays/local")
    for ingress in ingresses:
        (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
        assert tls == {"hosts": [rule["host"]], "secretName": "mcl-tls"}
        assert rule["host"] in json.loads(api_variables(overlay)["MCL_HOSTS"])
        (path,) = rule["http"]["paths"]
        assert path["path"] == "/"
        service = one(overlay, "Service", path["backend"]["service"]["name"])
        assert path["backend"]["service"]["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
        limit = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
        assert int(limit.removesuffix("k")) * 1024 == Settings.model_fields["max_body_bytes"].default


def test_prometheus_reads_the_metrics_that_there_are(overlay):
    if overlay == "overlays/local":
        assert of_kind(overlay, *WITHOUT_SCHEMA) == []
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


def test_the_policy_of_the_service_opens_its_port_alone(overlay):
    policy = one(overlay, "NetworkPolicy", "mcl-api")["spec"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": int(api_variables(overlay)["MCL_PORT"])}]
    assert all("namespaceSelector" in sender for sender in rule["from"])


def test_the_tables_are_migrated_by_a_command_that_exists(overlay, monkeypatch):
    job = one(overlay, "Job", "mcl-migrate")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][:3] == ["python", "-m", "mcl_ray.serve"]
    given = {name: value for name, value in variables(overlay, container).items() if name.startswith("MCL_")}
    assert given.keys() == {"MCL_DATABASE_URL"}
    program("serve").parse_args(container["args"][3:], exit_on_error=False, print_error=False)
    assert one(overlay, "Deployment", "mcl-api")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_database_of_the_small_overlay_is_the_one_that_it_names():
    (url,) = [
        _decoded(document, "database_url")
        for document in of_kind("overlays/local", "Secret")
        if document["metadata"]["name"].startswith("mcl-api-")
    ]
    parts = urlsplit(url)
    service = one("overlays/local", "Service", parts.hostname)
    assert service["spec"]["ports"][0]["port"] == parts.port
    (container,) = one("overlays/local", "StatefulSet", "mcl-postgres")["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (parts.username, parts.path) == (given["POSTGRES_USER"], f"/{given['POSTGRES_DB']}")
    Settings(database_url=url)


def _decoded(document, key):
    return base64.b64decode(document["data"][key]).decode()


def test_workers_may_be_taken_away_and_nothing_else():
    capacity = "karpenter.sh/capacity-type"
    for group in ray_groups("overlays/spot"):
        kind = group["template"]["spec"]["nodeSelector"][capacity]
        assert kind == ("spot" if group.get("groupName") == "workers" else "on-demand")
    for kind in of_kind("overlays/spot", "Deployment", "StatefulSet"):
        assert kind["spec"]["template"]["spec"]["nodeSelector"] == {capacity: "on-demand"}
    assert int(api_variables("overlays/spot")["MCL_MAX_LOST"]) > Settings.model_fields["max_lost"].default


def test_the_samples_are_commands_that_exist(monkeypatch, tmp_path):
    programs = {"mcl_ray.train": app.program(train.train), "mcl_ray.sweep": sweep.program("mcl_ray.sweep")}
    for job in of_kind("samples", "RayJob"):
        python, dash, module, *words = shlex.split(job["spec"]["entrypoint"])
        assert (python, dash) == ("python", "-m")
        programs[module].parse_args(words, exit_on_error=False, print_error=False)
        assert {"--address", "auto"} <= {*words}
        (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        if "--gpus-per-worker" in words:
            assert group["replicas"] == int(words[words.index("--workers") + 1])
            assert limits["cpu"] == words[words.index("--cpus-per-worker") + 1]
            assert limits["nvidia.com/gpu"] == int(words[words.index("--gpus-per-worker") + 1])
        data = words[words.index("--data") + 1]
        for node in (group, job["spec"]["rayClusterSpec"]["headGroupSpec"]):
            mounts = node["template"]["spec"]["containers"][0]["volumeMounts"]
            assert data.startswith("s3://") or any(data.startswith(mount["mountPath"] + "/") for mount in mounts)


def test_every_file_is_rendered():
    """A manifest that no kustomization names would be checked by nothing."""
    for folder in (path.parent for path in KUBERNETES.rglob("kustomization.yaml")):
        text = (folder / "kustomization.yaml").read_text()
        for file in folder.glob("*.yaml"):
            assert file.name == "kustomization.yaml" or f" {file.name}\n" in text, file
    assert {path.parent for path in KUBERNETES.rglob("*.yaml")} == {
        path.parent for path in KUBERNETES.rglob("kustomization.yaml")
    }


def test_the_commands_of_the_readme_name_what_exists():
    lines = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    folders = [word for line in lines for word in re.findall(r"-k (deploy/\S+)", line)]
    assert {f"deploy/kubernetes/{name}" for name in FOLDERS} <= {*folders}
    assert all((ROOT / name / "kustomization.yaml").is_file() for name in folders)
    for line in lines:
        if match := re.search(r"-- python -m mcl_ray\.serve (.*)$", line):
            program("serve").parse_args(shlex.split(match[1]), exit_on_error=False, print_error=False)
    named = {word for line in lines for word in re.findall(r"(?:deployment|service|job)/([\w-]+)", line)}
    assert named
    assert named <= {document["metadata"]["name"] for document in rendered("overlays/local")}


def test_documents_are_unique():
    for folder in FOLDERS:
        keys = [(document["kind"], document["metadata"]["name"]) for document in rendered(folder)]
        assert len(keys) == len({*keys})
        namespaces = {document["metadata"].get("namespace") for document in rendered(folder)} - {None}
        assert namespaces == {"mcl"}
