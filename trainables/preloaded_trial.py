"""Imports all that the process of a trial needs, with rare garbage collection meanwhile.

A worker of Ray imports it as it starts, if its Ray says so.
"""

from mcl_ray.garbage import collect_as_usual, collect_rarely

collect_rarely()

import tensorboardX  # noqa: E402, F401  # as every record needs it

import trainables.tune_function  # noqa: E402, F401

collect_as_usual()
