"""The page to look at lists, and what it shows."""
