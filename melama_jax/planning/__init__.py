"""Ahead-of-time compilation for a TPU slice nobody owns yet."""
