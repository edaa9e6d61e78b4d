"""Bytes on disk: readers of raw files, versioned outputs, embeddings, encoder directories."""
