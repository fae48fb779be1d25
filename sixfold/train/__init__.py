"""Training: the one loop over players, its recipe, checkpoints and logging."""
