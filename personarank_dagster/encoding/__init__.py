"""torch: encoders that turn texts into vectors."""
