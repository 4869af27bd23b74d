"""The small random checkpoint of the tests."""

from .checkpoint import build_tiny_checkpoint

__all__ = ["build_tiny_checkpoint"]
