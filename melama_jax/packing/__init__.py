"""Documents to fixed-length token records on disk, every token accounted for."""
