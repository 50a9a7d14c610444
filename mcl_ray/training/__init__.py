"""Training of one cohort: `loop.iter_epochs` is the training loop, the other modules are parts that it calls."""
