"""seqio Tasks and Mixtures over the gin table of sources."""
