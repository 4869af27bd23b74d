"""Compiled programs in the SDK's compile cache, by what they were made of.

The SDK's own entries are of single graphs, after lowering, and `torch_neuronx.trace` makes none. An entry here is a
program's whole file, for any number of ranks, so that a hit costs what its weights cost. It holds no weights.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ..artifact.compiled import PROGRAM_FILE
from ..artifact.manifest_records import ProgramRecipe
from ..errors import printable
from ..files import OTHERS_WRITE, open_regular, write_whole
from ..neuron.compile_cache import CompileCache
from .archive import packed, unpacked
from .recipes import digest_of

logger = logging.getLogger(__name__)

_ABOUT = "program.json"
_MOST_ABOUT = 1 << 20
_MOST_PROGRAM = 32 << 30
"""Bytes of a program and of the zeros in place of its weights; the largest instance has this much a core."""


class _About(BaseModel):
    """What an entry says of its program; written last.

    Attributes:
        recipes: what it was made of.
        sha256: of the file, packed.
    """

    recipes: tuple[ProgramRecipe, ...]
    sha256: str


def find_program(cache: CompileCache, recipes: Sequence[ProgramRecipe]) -> bytes | None:
    """The file of these programs; None where there is none, or where somebody else can write to it."""
    if not cache.enabled or not recipes:
        return None
    with cache.in_force():
        sdk_cache, entry = _entry(recipes)
        try:
            about = _About.model_validate_json(_read(sdk_cache, f"{entry}/{_ABOUT}", _MOST_ABOUT))
            if about.recipes != tuple(recipes):
                return None
            content = _read(sdk_cache, f"{entry}/{PROGRAM_FILE}", _MOST_PROGRAM)
            if hashlib.sha256(content).hexdigest() != about.sha256:
                raise ValueError("it is not what was stored")
            return unpacked(content, _MOST_PROGRAM)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning(f"the cached program {entry} is left out: {printable(error, 200)}")
            return None


def keep_program(cache: CompileCache, recipes: Sequence[ProgramRecipe], program: Path) -> None:
    """Keep the file of these programs, whose weights are zero or elsewhere."""
    if not cache.enabled or not recipes:
        return
    content = packed(program.read_bytes())
    about = _About(recipes=tuple(recipes), sha256=hashlib.sha256(content).hexdigest())
    with cache.in_force():
        sdk_cache, entry = _entry(recipes)
        try:
            for name, each in ((PROGRAM_FILE, content), (_ABOUT, about.model_dump_json().encode())):
                _write(sdk_cache, f"{entry}/{name}", each)
        except OSError as error:
            logger.warning(f"the compile cache takes no program: {printable(error, 200)}")


def _entry(recipes: Sequence[ProgramRecipe]) -> tuple[Any, str]:
    """The SDK's cache, or optimum-neuron's proxy of one on the Hub in its place, and the entry's path in it."""
    from libneuronxla import neuron_cc_cache

    cache = neuron_cc_cache.create_compile_cache(neuron_cc_cache.CacheUrl.get_cache_url())
    return cache, cache.get_cache_dir_with_cache_key(
        f"MODULE_{digest_of([each.model_dump() for each in recipes])[:20]}+pixart"
    )


def _read(cache: Any, path: str, most: int) -> bytes:
    """A file of the cache.

    A program is loaded as TorchScript, which can run code, and the SDK's default cache is in a folder that everybody
    may write to: only what this user or root wrote, and nobody else can change, is read.
    """
    if not cache.exists(path):
        raise FileNotFoundError(path)
    with tempfile.TemporaryDirectory(prefix="pixart-neuron-") as scratch:
        local = Path(path)
        is_here = local.is_file()
        if not is_here:
            local = Path(scratch, local.name)
            cache.download_file(path, str(local))
        with open_regular(local) as file:
            found = os.fstat(file.fileno())
            if is_here:
                _check_own(path, found, os.stat(local.parent))
            if found.st_size > most:
                raise ValueError(f"it has more than {most} bytes")
            return file.read()


def _check_own(path: str, *found: os.stat_result) -> None:
    for each in found:
        if each.st_uid not in (os.geteuid(), 0) or each.st_mode & OTHERS_WRITE:
            raise PermissionError(f"{path} can be written by other users")


def _write(cache: Any, path: str, content: bytes) -> None:
    """Into a local cache by ourselves: what the SDK writes there, others may write to."""
    if not cache.cache_url.is_s3():
        local = Path(path)
        local.parent.mkdir(parents=True, exist_ok=True)
        local.parent.chmod(0o755)
        write_whole(local, content)
        local.chmod(0o644)
        return
    with tempfile.TemporaryDirectory(prefix="pixart-neuron-") as scratch:
        source = Path(scratch, "content")
        source.write_bytes(content)
        cache.upload_file(path, str(source))
