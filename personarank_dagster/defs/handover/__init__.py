"""Lists for others, off unless export.yaml names a place."""
