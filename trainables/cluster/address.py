"""Whether a Ray cluster answers at an address, and would have this process; joining it is `cluster.py`.

Ray's own way of joining one waits for minutes where there is none, and says why in its logs alone.
"""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped]
import ray
from ray._private import services
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from mcl_ray.errors import UserError
from trainables.cluster.token import PLACES, credentials

messages: Any = gcs_service_pb2  # generated, as calls are: mypy cannot look inside
ANSWERS_WITHIN_S = 15.0


def check_cluster(address: str) -> str:
    """The address of a cluster that this process can join, as host:port.

    Raises:
        UserError: nothing answers there that is a Ray of this version, it does not know this process's token, or this
            machine is none of its nodes.
    """
    place = _resolve(address)
    version, nodes = _ask(place)
    if version != ray.__version__:
        raise UserError(
            f"a cluster must run the same Ray as this process, but {place} has {version}, not {ray.__version__}"
        )
    if not nodes & set(services.find_node_ids()):  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        raise UserError(
            f"sweeps and groups are started on a node of the cluster, but no node of {place} runs on this machine; "
            f"`ray start --address={place}` makes it one"
        )
    return place


def _resolve(address: str) -> str:
    """`auto` is the cluster that this machine is a node of."""
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536):
        raise UserError(f"a cluster's address is auto, or host:port of its head, but got {address!r}")
    try:
        return str(services.canonicalize_bootstrap_address_or_die(address))
    except ConnectionError as error:
        raise UserError(f"auto is the one Ray cluster that this machine is a node of, but: {error}") from error


def _ask(place: str) -> tuple[str, set[str]]:
    """The version of the Ray that answers, and its living nodes."""
    try:
        with grpc.insecure_channel(place) as channel:
            head: Any = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            ticket = {"timeout": ANSWERS_WITHIN_S, "metadata": credentials()}
            alive = head.CheckAlive(messages.CheckAliveRequest(), **ticket)
            found = head.GetAllNodeInfo(messages.GetAllNodeInfoRequest(), **ticket)
    except grpc.RpcError as error:
        raise UserError(_why(place, error)) from error
    return alive.ray_version, {node.node_id.hex() for node in found.node_info_list if not node.state}


def _why(place: str, error: grpc.RpcError) -> str:
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        had = "another" if credentials() else "none"
        return f"the Ray cluster at {place} asks for its token, but this process has {had}: {PLACES}"
    said = " ".join(str(error.details()).split())
    return f"a Ray cluster must answer at {place} within {ANSWERS_WITHIN_S:g} s, but none does: {said}"
