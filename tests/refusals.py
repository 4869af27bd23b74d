"""What a user is told when something is refused."""

from collections.abc import Callable

import pytest


def refusal(kind: type[Exception], act: Callable, *arguments, **options) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(kind) as refused:
        act(*arguments, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)
