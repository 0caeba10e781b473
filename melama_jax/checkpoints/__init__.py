"""The Orbax store: runs saved, proven whole, and read back."""
