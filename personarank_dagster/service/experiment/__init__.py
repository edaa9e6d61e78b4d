"""Two orders compared on users: who gets which, and what was shown."""
