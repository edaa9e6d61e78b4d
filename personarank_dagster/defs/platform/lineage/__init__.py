"""What a run began with, what a version was made from, and whether that still holds."""
