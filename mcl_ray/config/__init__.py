"""Specs, recipes, overrides and environments, all importable without torch, ray or optuna.

`spec.py` defines what is trained (hashed); `environment.py` and `execution.py` define where (not hashed).
"""
