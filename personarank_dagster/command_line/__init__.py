"""The command line `personarank`: what a person types, and what a terminal shows."""
