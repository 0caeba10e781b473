"""Records to global batches, a pure function of (seed, data step)."""
