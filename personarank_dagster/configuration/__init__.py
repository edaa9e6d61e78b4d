"""The YAML files of a dataset, read strictly: every key has a rule."""
