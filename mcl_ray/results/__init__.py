"""What happened: Parquet files of runs, epochs and sweeps, and the tables, plots and pages made of them.

Nothing here trains or searches, and nothing here imports torch, ray or optuna. Start at `store.py`.
"""
