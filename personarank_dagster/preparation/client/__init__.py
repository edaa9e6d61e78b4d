"""The client of a language model: questions of a stage in, checked answers out, each paid for once."""
