"""The tokenizer, which is copied."""
