"""Emulated compile cache: the methods that optimum-neuron's hub cache calls, on a local directory.

Layout and default root are the real ones (Neuron persistent cache guide): `<root>/neuronxcc-<version>/MODULE_<key>/`.
"""

import os
import shutil
from pathlib import Path

import neuronxcc

DEFAULT_ROOT = "/var/tmp/neuron-compile-cache"


class CacheUrl:
    """Where a cache lives. Only local directories (`fs`) are emulated."""

    def __init__(self, path: str, url_type: str = "fs"):
        if url_type != "fs" or "://" in path.removeprefix("file://"):
            raise ValueError(f"cache {path!r} of type {url_type!r} is not emulated: use a local directory")
        self.url = path.removeprefix("file://")
        self.url_type = url_type

    @classmethod
    def get_cache_url(cls, cache_dir: str | None = None) -> "CacheUrl":
        """The given directory, else `NEURON_COMPILE_CACHE_URL`, else the default root."""
        return cls(str(cache_dir or os.environ.get("NEURON_COMPILE_CACHE_URL") or DEFAULT_ROOT))

    def is_s3(self) -> bool:
        return False


class CompileCache:
    """A cache keyed by the hash of a graph and of its compiler flags. Paths are absolute strings."""

    def __init__(self, cache_url: CacheUrl):
        self.cache_url = cache_url
        self.cache_path = cache_url.url

    def get_cache_dir_with_cache_key(self, key: str) -> str:
        return os.path.join(self.cache_path, f"neuronxcc-{neuronxcc.__version__}", key)

    def get_cache_dir(self, model_hash: str, compile_flags_str: str) -> str:
        return self.get_cache_dir_with_cache_key(f"MODULE_{model_hash}+{compile_flags_str}")


class CompileCacheFs(CompileCache):
    """The cache on a local directory."""

    def clean(self) -> None:
        """Delete all entries."""
        shutil.rmtree(self.cache_path, ignore_errors=True)

    def clear_locks(self) -> None:
        """Delete the locks that other processes left."""
        for lock in Path(self.cache_path).rglob("*.lock"):
            lock.unlink(missing_ok=True)

    def get_hlos(self, failed_neff_str: str = "") -> list[str]:
        """Paths of the graphs in the cache."""
        return sorted(str(path) for path in Path(self.cache_path).rglob("*.hlo*") if path.suffix != ".lock")

    def hlo_acquire_lock(self, h: str) -> bool:
        """Whether this process now holds the lock of a graph."""
        Path(h).parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(f"{h}.lock").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def hlo_release_lock(self, h: str) -> None:
        Path(f"{h}.lock").unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Delete a file or directory of the cache."""
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def download_file(self, filename: str, dst_path: str) -> None:
        """Copy a file of the cache to `dst_path`."""
        shutil.copyfile(filename, dst_path)

    def upload_file(self, cache_path: str, src_path: str) -> None:
        """Copy the file at `src_path` into the cache."""
        os.makedirs(os.path.dirname(cache_path), exist_ok=True)
        shutil.copyfile(src_path, cache_path)

    def upload_string_to_file(self, cache_path: str, data: str) -> None:
        os.makedirs(os.path.dirname(cache_path), exist_ok=True)
        Path(cache_path).write_text(data)

    def download_file_to_string(self, filename: str, limit: int | None = None) -> str:
        text = Path(filename).read_text()
        return text if limit is None else text[:limit]


class CompileCacheS3(CompileCache):
    """Named for `isinstance` checks; it cannot be made."""

    def __init__(self, cache_url: CacheUrl):
        raise ValueError(f"cache {cache_url.url!r}: S3 caches are not emulated, use a local directory")


def create_compile_cache(cache_url: CacheUrl) -> CompileCacheFs:
    """The cache at a URL; ValueError for one on S3."""
    if cache_url.is_s3():
        CompileCacheS3(cache_url)
    return CompileCacheFs(cache_url)
