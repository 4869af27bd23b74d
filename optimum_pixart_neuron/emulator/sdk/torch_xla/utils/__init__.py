"""Emulated torch_xla.utils."""
