"""A sweep on Ray Tune with Optuna: the tuner, its converters, searcher, scheduler and callbacks."""

import trainables  # noqa: F401 -- sets the environment variables that Ray reads when it is imported
