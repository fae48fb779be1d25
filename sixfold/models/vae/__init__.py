"""Latent variables and a lower bound."""
