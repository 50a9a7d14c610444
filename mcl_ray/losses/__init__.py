"""The loss: the contrast grid, its four terms (read `terms` first), and logit distillation."""
