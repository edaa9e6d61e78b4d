"""Candidate lists for datasets that have none."""
