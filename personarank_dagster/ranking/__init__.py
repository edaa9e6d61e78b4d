"""Profiles against personas: scores, blend, order and reasons of candidate lists, and what the order gains."""
