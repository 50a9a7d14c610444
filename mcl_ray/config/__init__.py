"""What to train and where: specs, recipes, overrides and environments, all without torch, ray or optuna.

`spec.py` is what is trained (hashed), `environment.py` and `execution.py` say where (not hashed).
"""
