"""Attention: the plain reference, and the one `attention()` that chooses."""
