"""The C library's memory allocator, from which torch has its tensors on a CPU."""

from __future__ import annotations

import torch

KEPT_BYTES = 31 * 2**20
"""Largest block that glibc keeps when it is freed; a larger one would leave its limits as they are."""


def keep_freed_memory() -> None:
    """Let the allocator keep about 64 MB of freed memory for the next tensors of this process.

    glibc returns freed memory beyond a limit to the system, and each page of it costs a fault when it is needed again.
    The limit is twice the largest block of up to 32 MiB that was freed (mallopt(3), M_MMAP_THRESHOLD), so that freeing
    one raises it. The block is never written, and so takes no memory.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
