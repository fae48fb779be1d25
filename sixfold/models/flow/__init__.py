"""Exact likelihood by a change of variables."""
