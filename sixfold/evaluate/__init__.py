"""Metrics: pure functions from samples and scores to numbers."""
