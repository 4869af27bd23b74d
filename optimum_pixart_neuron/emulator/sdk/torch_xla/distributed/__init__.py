"""Emulated torch_xla.distributed."""
