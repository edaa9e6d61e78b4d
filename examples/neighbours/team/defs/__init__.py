"""The component, and the assets of the team."""
