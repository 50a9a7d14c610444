"""The manifests of deploy/kubernetes agree with the code: settings, versions, commands, and what the README names."""

from __future__ import annotations

import base64
import json
import re
import shlex
from urllib.parse import urlsplit

import mcl_ray
from api.settings import Settings
from mcl_ray.cli import app, sweep, train
from mcl_ray.cli.serve import program
from tests.support.deploy_tools import ROOT, rendered
from tests.support.manifests import (
    FOLDERS,
    OVERLAYS,
    POD_IP,
    RAY_PORTS,
    README,
    api_variables,
    below,
    containers,
    of_kind,
    one,
    ray_groups,
    variables,
)

SET_BY_KUBERAY = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}
DRIVER = 0.001
"""What a driver takes of `driver_resource`, by api/ray_jobs.py."""


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
