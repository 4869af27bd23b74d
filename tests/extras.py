"""What a test needs of the extras, asked without importing it: every worker collects every file."""

import importlib.util

import pytest


def needs(module: str, extra: str = "serve") -> pytest.MarkDecorator:
    """Skips where `module` is not installed; `pytest.importorskip` would import it to find out."""
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"needs {module}, of the extra {extra}")
