"""Raw files in, tables out: every line is kept exactly, or named with field, rule and value."""
