"""Numerics without models: quadrature, ODEs, samplers, chains."""
