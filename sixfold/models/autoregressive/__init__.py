"""Exact likelihood by the chain rule."""
