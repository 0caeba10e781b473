"""State, loss, step, optimizer, loop and hooks."""
