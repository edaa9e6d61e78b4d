"""Encoding, ranking and training on a Ray cluster. Ray is imported by what is called, never by what is imported."""
