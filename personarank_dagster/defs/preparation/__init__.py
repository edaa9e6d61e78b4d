"""From raw reviews to personas: the split, and the stages that ask a language model."""
