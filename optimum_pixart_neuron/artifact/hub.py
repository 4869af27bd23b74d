"""The way of artifacts to the Hugging Face Hub and back."""

from .pull import is_repository, pull
from .push import check_push, push

__all__ = ["check_push", "is_repository", "pull", "push"]
