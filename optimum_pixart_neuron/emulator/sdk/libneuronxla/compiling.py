"""Compiling with the persistent cache (libneuronxla 2.2): looked up by graph and flags, and stored what was compiled.

NxD's ModelBuilder compiles every program through here. `torch_neuronx.trace` does not, so it caches nothing.
"""

import hashlib
import json
import tempfile
from pathlib import Path

from optimum_pixart_neuron.emulator.neuronx_cc import compile_graph

# By this name in this module: optimum-neuron puts its proxy of the Hub in its place.
from .neuron_cc_cache import CacheUrl, CompileCacheFs, create_compile_cache

_NEFF, _DONE, _GRAPH, _FLAGS = "model.neff", "model.done", "model.hlo_module.pb", "compile_flags.json"


def neuron_xla_compile(
    module_bytes: bytes,
    compiler_flags: str,
    input_format: str = "hlo",
    platform_target: str = "trn1",
    cache_key: str | None = None,
    retry_failed_compilation: bool = False,
    lazy: bool = True,
    use_cache: bool = True,
    cache_dir: str | None = None,
    work_dir: str | Path | None = None,
    create_subdir: bool = True,
) -> bytes:
    """Compile a graph, or take what the cache has under the same key and flags.

    Args:
        module_bytes: the graph.
        compiler_flags: of neuronx-cc; `--target` comes from `platform_target`.
        cache_key: of the graph, by default the hash of its bytes.
        use_cache: whether to look up and to store.
        cache_dir: of the cache; by default `NEURON_COMPILE_CACHE_URL`.
        work_dir: for intermediate files.

    Raises:
        RuntimeError: the compiler failed.
    """
    cache = create_compile_cache(CacheUrl.get_cache_url(cache_dir)) if use_cache else None
    key = cache_key or hashlib.sha256(module_bytes).hexdigest()[:20]
    entry = cache.get_cache_dir(key, hashlib.md5(compiler_flags.encode()).hexdigest()[:8]) if cache else ""
    if cache and cache.exists(f"{entry}/{_DONE}") and cache.exists(f"{entry}/{_NEFF}"):
        return _download(cache, f"{entry}/{_NEFF}")
    flags = f"{compiler_flags} --target={platform_target}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(work_dir or scratch)
        neff = compile_graph(module_bytes, flags, folder)
        if cache:
            content = {_GRAPH: module_bytes, _NEFF: neff, _FLAGS: json.dumps(flags.split()).encode(), _DONE: b""}
            for name, each in content.items():
                source = Path(scratch, name)
                source.write_bytes(each)
                cache.upload_file(f"{entry}/{name}", str(source))
    return neff


def neuron_xla_wlo_compile(module_bytes: bytes, compiler_flags: str, **options) -> tuple[bytes, bytes]:
    """The same for the program whose layout of weights all others take.

    Returns:
        the program, and the graph that says the layout: none here, where weights stay as they are.
    """
    return neuron_xla_compile(module_bytes, compiler_flags, **options), b""


def _download(cache: CompileCacheFs, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, _NEFF)
        cache.download_file(name, str(target))
        return target.read_bytes()
