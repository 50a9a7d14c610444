"""Figures computed from the results store: rankings, costs, comparison with published tables; nothing is drawn."""
