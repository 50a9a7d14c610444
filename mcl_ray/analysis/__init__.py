"""Analysis of the results store: rankings, costs, importances, comparison with published tables.

Nothing is drawn or printed here; that is `mcl_ray.reports`.
"""
