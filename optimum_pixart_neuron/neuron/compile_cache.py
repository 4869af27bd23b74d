"""The SDK's persistent compile cache: where it lies and whether it is used, by the variables that the SDK reads.

`NEURON_COMPILE_CACHE_URL` is its folder or bucket. In `NEURON_CC_FLAGS`, `--cache_dir` goes before it and `--no_cache`
turns the cache off (AWS Neuron documentation, "Neuron persistent cache"). NxD's ModelBuilder always looks up and
stores (0.15 `model_builder.py` passes `use_cache=True`), so without a cache it gets an empty one that is removed.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InvalidExportOption
from .compiler import environment_variables

URL, FLAGS = "NEURON_COMPILE_CACHE_URL", "NEURON_CC_FLAGS"
_FOLDER, _OFF = "--cache_dir", "--no_cache"


@dataclass(frozen=True, kw_only=True)
class CompileCache:
    """Where compiled programs are looked up and stored.

    Attributes:
        enabled: whether they are.
        url: the folder, absolute, or the bucket; None for the SDK's own choice.
        other_flags: what `NEURON_CC_FLAGS` holds besides.
    """

    enabled: bool
    url: str | None = None
    other_flags: str | None = None

    @classmethod
    def chosen(cls, environment: Mapping[str, str], *, disabled: bool = False) -> CompileCache:
        """What the variables say.

        Args:
            disabled: whether the user asked for none.

        Raises:
            InvalidExportOption: `NEURON_CC_FLAGS` has a quote without an end, or `--cache_dir` without a folder.
        """
        text = environment.get(FLAGS)
        try:
            words = shlex.split(text or "")
        except ValueError as error:
            raise InvalidExportOption(f"{FLAGS}={text}: {error}; close the quote, or unset it") from None
        folder, others = environment.get(URL), []
        left = iter(words)
        for word in left:
            name, separator, value = word.partition("=")
            if name == _FOLDER:
                folder = value if separator else next(left, "")
                if not folder:
                    raise InvalidExportOption(f"{FLAGS}={text}: {_FOLDER} needs a folder; add one, or leave it out")
            elif word == _OFF:
                disabled = True
            else:
                others.append(word)
        other_flags = None if text is None else shlex.join(others)
        if folder and "://" not in folder:
            folder = os.path.abspath(folder)
        return cls(enabled=not disabled, url=folder or None, other_flags=other_flags)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Have the SDK go by it within the block."""
        with tempfile.TemporaryDirectory(prefix="pixart-neuron-no-cache-") as scratch:
            values = {} if self.other_flags is None else {FLAGS: self.other_flags}
            url = self.url if self.enabled else scratch
            if url is not None:
                values[URL] = url
            with environment_variables(values):
                yield
