"""A slice and a run in, the exact command to launch it out."""
