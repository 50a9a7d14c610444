"""What Ray runs: our training loop as a Tune trainable."""
