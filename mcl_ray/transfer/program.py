"""A trained member as others load it: tensors by published names, and a `torch.export` program."""

from __future__ import annotations

import io

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.export import Dim

from mcl_ray.cohort import Cohort
from mcl_ray.interop import network_names
from mcl_ray.models.network import Network
from mcl_ray.transfer.member import Member

# B images, K input channels, H × W pixels, C classes, F features


class PeerLogits(nn.Module):
    """One peer: normalised images [B, K, H, W] to logits [B, C], or to features [B, F] without a classifier."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the network, one row for each image."""
        logits_BC: Tensor = self.network(images)[0]
        return logits_BC


class EnsembleLogits(nn.Module):
    """The mean of all peers' logits: normalised images [B, K, H, W] to [B, C]; a shared stem is computed once."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self.cohort = cohort
        self.cohort.heads = nn.ModuleList()

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean logits."""
        return self.cohort.logits(images).mean(0)


def module_of(cohort: Cohort, member: Member) -> nn.Module:
    """Return the module that computes a member's output, in evaluation mode.

    It shares the cohort's tensors; an ensemble removes the cohort's embedding heads.
    """
    module = EnsembleLogits(cohort) if member.is_ensemble else PeerLogits(cohort.peer(member.peers[0]))
    return module.eval()


def tensors_of(cohort: Cohort, member: Member) -> dict[str, Tensor]:
    """Return copies of a member's tensors by their published names; in an ensemble, below `peers.{i}.`.

    Each peer is complete: a shared stem is there once for each peer.
    """
    tensors: dict[str, Tensor] = {}
    for i, name in zip(member.peers, member.networks, strict=True):
        network, prefix = cohort.peer(i), f"peers.{i}." if member.is_ensemble else ""
        own = network.state_dict()
        for ours, published in network_names(name, network).items():
            tensors[prefix + published] = own[ours].clone(memory_format=torch.contiguous_format)
    return tensors


def to_safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors as the bytes of a safetensors file."""
    return save(tensors, metadata={"format": "pt"})


def to_program(module: nn.Module, image_shape: tuple[int, int, int]) -> bytes:
    """Return a module as the bytes of a `torch.export` program, for any number of images of one shape.

    Args:
        module: A module with contiguous weights; torch's format has no other layout.
        image_shape: Channels, height, width.
    """
    images = torch.zeros(2, *image_shape)  # a batch of one would be exported as a constant
    program = torch.export.export(module, (images,), dynamic_shapes={"images": {0: Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # has paths of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
