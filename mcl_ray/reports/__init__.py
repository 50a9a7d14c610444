"""Presentation of results: terminal tables, progress, PNG figures and the HTML page.

The figures that are shown are computed in `mcl_ray.analysis`.
"""
