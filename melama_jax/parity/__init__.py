"""Whether an exported folder computes what its source computes, and the certificate that says so."""
