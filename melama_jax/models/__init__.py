"""LLaMA as Flax modules; knows no mesh and no file."""
