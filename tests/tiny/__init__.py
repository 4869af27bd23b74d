"""The small random checkpoint of the tests."""

from .checkpoint import PATCH_SIZE, build_tiny_checkpoint

__all__ = ["PATCH_SIZE", "build_tiny_checkpoint"]
