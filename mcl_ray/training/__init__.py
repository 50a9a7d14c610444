"""Training one cohort: `loop.fit` is the one visible loop; everything else here is a part it calls."""
