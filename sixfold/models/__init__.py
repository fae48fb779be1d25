"""One file an algorithm, one folder a family."""
