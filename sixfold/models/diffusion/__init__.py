"""Denoising at every level of noise."""
