"""Training methods: the losses of a batch and the state behind them, one module per method."""
