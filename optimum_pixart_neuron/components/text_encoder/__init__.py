"""T5, the text encoder."""
