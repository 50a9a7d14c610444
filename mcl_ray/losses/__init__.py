"""Losses: the contrast grid, its four terms (start with `terms`), and logit distillation."""
