"""Vectors by the hash of their text, and the caches that are made of them."""
