"""The results store: Parquet records of runs, epochs and sweeps, in local folders and in remote stores.

`store.py` lists the public names. Nothing here imports torch, ray or optuna. Figures computed from the records are in
`mcl_ray.analysis`; tables, plots and pages are in `mcl_ray.reports`.
"""
