"""The Python API: one class a module. `mcl_ray` itself exports the classes.

They return results, send events to callbacks and raise our errors. They do not print, except for a progress bar in a
notebook; the commands in `mcl_ray.cli` call them and print.
"""
