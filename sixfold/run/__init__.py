"""One training as a folder: configuration, checkpoints, samples and a page."""
