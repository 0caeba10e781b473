"""The whole path in small: the invented medical world and the run through every room."""
