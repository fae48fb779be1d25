"""Pictures: pure functions from arrays to figures, in one visual language."""
