"""Searches: what is varied, and the engine that varies it on Ray Tune with Optuna."""
