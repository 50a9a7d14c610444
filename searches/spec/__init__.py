"""Specs of searches and suites as data: fields, spaces, strategies, names; needs neither ray nor optuna."""
