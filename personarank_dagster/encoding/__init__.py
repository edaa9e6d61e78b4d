"""Encoders with torch and sentence-transformers: encoding texts, the loss, training."""
