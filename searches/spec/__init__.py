"""What is searched or trained for a table, as data: specs, spaces, strategies, names; needs neither ray nor optuna."""
