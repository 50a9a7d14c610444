"""Mutual Contrastive Learning: cohorts of peer networks that teach each other, trained and tuned on Ray.

Importing this package loads nothing heavy. The way in: `mcl_ray.recipes` (what to train), `mcl_ray.training.loop.fit`
(train it), `mcl_ray.losses.terms` (the mathematics).
"""

from mcl_ray.errors import MclError
from mcl_ray.spec import RunSpec

__all__ = ["MclError", "RunSpec", "__version__"]
__version__ = "0.1.0"
