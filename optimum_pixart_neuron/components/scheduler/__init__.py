"""The scheduler, which is copied."""
