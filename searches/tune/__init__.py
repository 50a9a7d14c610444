"""A sweep on Ray Tune with Optuna: the tuner, its converters, searcher, scheduler and callbacks."""
