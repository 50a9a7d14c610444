"""Searches and suites: their specs, and running them on Ray Tune with Optuna."""
