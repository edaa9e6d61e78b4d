"""The graph in other people's code locations: as a component, or as definitions."""
