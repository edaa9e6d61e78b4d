"""Texts as the token ids that a model reads, and batches of them."""
