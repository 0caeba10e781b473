"""Which documents are kept: quality, duplicates, benchmark overlap, licence and identifiers."""
