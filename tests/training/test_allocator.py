"""Large tensors have memory that is kept when they are freed, and not blocks of their own from the system."""

import subprocess
import sys

import pytest

OWN_BLOCK = """
import ctypes, sys, torch
from mcl_ray.training.allocator import keep_freed_memory

class Counts(ctypes.Structure):  # struct mallinfo2
    names = "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Counts
if sys.argv[1] == "keep":
    keep_freed_memory()
before = mallinfo2().hblks
tensor = torch.empty(30 * 2**20, dtype=torch.uint8)
print(mallinfo2().hblks - before)
"""


def blocks_of_a_tensor(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", OWN_BLOCK, way], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limits are glibc's")
def test_large_tensors_have_memory_that_is_kept():
    assert blocks_of_a_tensor("return") == 1
    assert blocks_of_a_tensor("keep") == 0
