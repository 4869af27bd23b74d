"""Low-rank adapters (LoRA, DoRA): how they are saved, how they are read, and what they add to weights."""
