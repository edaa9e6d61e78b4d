"""torch: texts into vectors by an encoder, and profiles against personas on a GPU."""
