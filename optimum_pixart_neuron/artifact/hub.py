"""The way of artifacts to the Hugging Face Hub and back."""

from .download import pull
from .upload import check_push, push

__all__ = ["check_push", "pull", "push"]
