"""The program `ray`, which has the workers of a Ray that it starts forked: see `tests.support.own_ray`.

Usage: python ray_program.py start OPTIONS
"""

import importlib
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    importlib.import_module("tests.support.own_ray")
    runpy.run_module("ray.scripts.scripts", run_name="__main__", alter_sys=True)
