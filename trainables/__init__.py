"""Adapters between Ray and the training loop: Tune trainables, and workers under Ray Train.

Importing any module of this package first sets the variables that Ray reads when it is imported.
"""

import trainables.ray_environment  # noqa: F401  # before anything below this package imports ray
