"""The SDK's persistent compile cache: where it lies and whether it is used, by the variables that the SDK reads.

`NEURON_COMPILE_CACHE_URL` is its folder or bucket. In `NEURON_CC_FLAGS`, `--cache_dir` goes before it and `--no_cache`
turns the cache off (AWS Neuron documentation, "Neuron persistent cache"). NxD's ModelBuilder always looks up and
stores (0.15 `model_builder.py` passes `use_cache=True`), so without a cache it gets an empty one that is removed.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidExportOption
from .compiler import environment_variables

URL = "NEURON_COMPILE_CACHE_URL"
FLAGS = "NEURON_CC_FLAGS"
DEFAULT_FOLDER = "/var/tmp/neuron-compile-cache"
"""Of libneuronxla, where nothing names another (AWS Neuron SDK documentation, neuron-caching.rst)."""
_FOLDER, _OFF = "--cache_dir", "--no_cache"
_SDK, _LOOKUP = "libneuronxla", "create_compile_cache"


@dataclass(frozen=True, kw_only=True)
class CompileCache:
    """Where compiled programs are looked up and stored.

    Attributes:
        enabled: whether they are.
        url: the folder, absolute, or the bucket; None for the SDK's own choice.
        other_flags: what `NEURON_CC_FLAGS` holds besides.
        repository: on the Hub, that is asked for what the cache lacks; None for no such.
    """

    enabled: bool
    url: str | None = None
    other_flags: str | None = None
    repository: str | None = None

    @classmethod
    def chosen(
        cls, environment: Mapping[str, str], *, disabled: bool = False, repository: str | None = None
    ) -> CompileCache:
        """What the variables say.

        Args:
            disabled: whether the user asked for none.
            repository: see the attribute; asked only with a cache.

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
        asked = None if disabled else repository
        return cls(enabled=not disabled, url=folder or None, other_flags=other_flags, repository=asked)

    @contextmanager
    def in_force(self, scratch: Path | None = None) -> Iterator[None]:
        """Have the SDK go by it within the block.

        Args:
            scratch: where the empty cache lies that stands for none; by default among the system's temporary files.
        """
        with ExitStack() as stack:
            values = {} if self.other_flags is None else {FLAGS: self.other_flags}
            url = self.url
            if not self.enabled:
                url = stack.enter_context(tempfile.TemporaryDirectory(prefix="no-cache-", dir=scratch))
            if url is not None:
                values[URL] = url
            stack.enter_context(environment_variables(values))
            stack.enter_context(_lookups_left_as_they_were())
            if self.repository is not None:
                from optimum.neuron.cache.hub_cache import hub_neuronx_cache

                stack.enter_context(hub_neuronx_cache(cache_repo_id=self.repository))
            yield

    def record(self, entry: Any) -> None:
        """Have an entry of optimum-neuron's registry in the cache."""
        from optimum.neuron.cache.hub_cache import hub_neuronx_cache

        with self.in_force(), hub_neuronx_cache(entry=entry):
            pass


@contextmanager
def _lookups_left_as_they_were() -> Iterator[None]:
    """The SDK's own cache within the block, whatever a session of optimum-neuron has left, and behind it as before.

    Such a session puts a proxy of the Hub in place of the SDK's function, and takes it away once a process only: what
    takes it away remembers that it did so (optimum-neuron 0.4.5 `_patch_everywhere_with_cache`).
    """
    from libneuronxla import neuron_cc_cache
    from optimum.neuron.cache import hub_cache

    before = getattr(neuron_cc_cache, _LOOKUP)
    _put_everywhere(getattr(hub_cache, _LOOKUP))
    try:
        yield
    finally:
        _put_everywhere(before)


def _put_everywhere(lookup: Any) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith(_SDK) and hasattr(module, _LOOKUP):
            setattr(module, _LOOKUP, lookup)


def chosen_repository(environment: Mapping[str, str]) -> str | None:
    """The repository of compiled programs that the user has chosen (`CUSTOM_CACHE_REPO`, `neuron cache set`).

    optimum-neuron's own, which it takes otherwise, holds no PixArt-Sigma, so it is not asked.
    """
    from optimum.neuron.utils.cache_utils import load_custom_cache_repo_name_from_hf_home

    return environment.get("CUSTOM_CACHE_REPO") or load_custom_cache_repo_name_from_hf_home() or None
