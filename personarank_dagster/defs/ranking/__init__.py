"""Reranked lists and what they gain: their assets, their checks, pictures, explanations."""
