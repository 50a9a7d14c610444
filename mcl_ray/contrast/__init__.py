"""Where the contrast set comes from: one module per source, each returning a `losses.grid.ContrastGrid`."""
