"""A raw source (PubMed XML, PMC JATS, JSONL, plain text) to a stream of Documents."""
