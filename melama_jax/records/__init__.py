"""What crosses borders: Document, Record, Manifest."""
