"""The check that a Ray cluster answers at an address and accepts this process; joining it is `connect.py`.

Ray itself waits for minutes if no cluster answers, and gives the reason in its logs alone.
"""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
import ray
from ray._private import services
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from mcl_ray.errors import UserError
from trainables.cluster.token import PLACES, credentials

messages: Any = gcs_service_pb2  # generated, so that mypy does not know its members
ANSWERS_WITHIN_S = 15.0


def check_cluster(address: str) -> str:
    """Return the address of a cluster that this process can join, as host:port.

    Raises:
        UserError: no Ray of this version answers, it does not accept this process's token, or this machine is not one
            of its nodes.
    """
    endpoint = _resolve(address)
    version, nodes = _ask(endpoint)
    if version != ray.__version__:
        raise UserError(
            f"a cluster must run the same Ray as this process, but {endpoint} has {version}, not {ray.__version__}"
        )
    if not nodes & set(services.find_node_ids()):  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        raise UserError(
            f"sweeps and runs are started on a node of the cluster, but no node of {endpoint} runs on this machine; "
            f"`ray start --address={endpoint}` makes it one"
        )
    return endpoint


def _resolve(address: str) -> str:
    """Return host:port; `auto` is the cluster that this machine is a node of."""
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536):
        raise UserError(f"a cluster's address is auto, or host:port of its head, but got {address!r}")
    try:
        return str(services.canonicalize_bootstrap_address_or_die(address))
    except ConnectionError as error:
        raise UserError(f"auto is the one Ray cluster that this machine is a node of, but: {error}") from error


def _ask(endpoint: str) -> tuple[str, set[str]]:
    """Return the version of the Ray that answers, and its active nodes."""
    try:
        with grpc.insecure_channel(endpoint) as channel:
            head: Any = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            call_options = {"timeout": ANSWERS_WITHIN_S, "metadata": credentials()}
            alive = head.CheckAlive(messages.CheckAliveRequest(), **call_options)
            found = head.GetAllNodeInfo(messages.GetAllNodeInfoRequest(), **call_options)
    except grpc.RpcError as error:
        raise UserError(_why(endpoint, error)) from error
    return alive.ray_version, {node.node_id.hex() for node in found.node_info_list if not node.state}


def _why(endpoint: str, error: grpc.RpcError) -> str:
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        token = "another" if credentials() else "none"
        return f"the Ray cluster at {endpoint} asks for its token, but this process has {token}: {PLACES}"
    details = " ".join(str(error.details()).split())
    return f"a Ray cluster must answer at {endpoint} within {ANSWERS_WITHIN_S:g} s, but none does: {details}"
