"""Emulated torch_xla.core."""
