"""Raw reviews: what is held out of them, and what of the rest may be sent."""
