"""Suites of runs, scored under one protocol, as tables and reports."""
