"""What the process of a trial imports as it starts, if its Ray says so, without garbage collection meanwhile.

To be imported once, by a worker of Ray that has nothing else to do yet.
"""

from mcl_ray.garbage import collect_as_usual, collect_rarely

collect_rarely()

import tensorboardX  # noqa: E402, F401  # as every record needs it

import trainables.tune_function  # noqa: E402, F401

collect_as_usual()
