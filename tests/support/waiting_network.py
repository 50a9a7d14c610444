"""A plugin with a network that waits as for a device, and computes almost nothing.

A run of many epochs that a test interrupts, or that waits for what the test does, takes no CPU time from the others.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from mcl_ray import register
from mcl_ray.models.network import GlobalAveragePool, Network

STEP_S = 0.02


class Wait(nn.Module):
    """Waits at each batch, and passes it on."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `images`, of any shape, after a wait."""
        time.sleep(STEP_S)
        return images


@register.network("waiting")
def waiting(num_classes: int, in_channels: int) -> Network:
    """Return a network of one small convolution that waits `STEP_S` a batch."""
    stem = nn.Sequential(Wait(), nn.Conv2d(in_channels, 8, 3, stride=2), nn.ReLU())
    return Network(
        stem, nn.Sequential(nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), GlobalAveragePool()), nn.Linear(16, num_classes)
    )
