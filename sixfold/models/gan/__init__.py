"""A generator against a critic, without a likelihood."""
