"""The way of artifacts to the Hugging Face Hub and back."""

from .download import is_repository, pull
from .upload import check_push, push

__all__ = ["check_push", "is_repository", "pull", "push"]
