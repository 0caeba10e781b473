"""seqio Tasks and Mixtures over the gin table of sources; the only room that imports seqio."""
