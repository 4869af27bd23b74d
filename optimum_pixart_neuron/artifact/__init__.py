"""What lies on disk after an export: its manifest, checks at load, and the way to the Hugging Face Hub and back."""
