"""Mutual Contrastive Learning: cohorts of peer networks that teach each other, trained and tuned on Ray.

Importing this package loads nothing heavy. Start with `mcl_ray.config.recipes` (what to train),
`mcl_ray.training.loop.iter_epochs` (the training loop) and `mcl_ray.losses.terms` (the mathematics).
"""

from mcl_ray.errors import MclError

__all__ = ["MclError", "RunSpec", "__version__"]
__version__ = "0.1.0"
