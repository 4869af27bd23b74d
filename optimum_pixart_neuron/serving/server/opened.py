"""What the options of a server name in files: exports and keys. Read before the command leaves its folder."""

from __future__ import annotations

from dataclasses import replace

from ...errors import InvalidExportOption
from ...files import read_bytes
from ..exported import Exported, open_export
from .options import ServeOptions

_LARGEST_KEY_FILE = 1 << 20


def open_all(options: ServeOptions) -> dict[str, Exported]:
    """The exports by the names that requests use.

    Raises:
        InvalidExportOption: two have one name.
        PixArtNeuronError: as `open_export`.
    """
    found: dict[str, Exported] = {}
    for text in options.exports:
        name, separator, address = text.rpartition("=")
        exported = open_export(address)
        if separator:
            exported = replace(exported, name=name)
        if exported.name in found:
            raise InvalidExportOption(f"{text}: another export is called {exported.name}; write NAME={address}")
        found[exported.name] = exported
    return found


def read_keys(options: ServeOptions) -> list[str]:
    """The keys that requests may use; InvalidExportOption where the file cannot be read, or has none."""
    path = options.api_key_file
    if path is None:
        return []
    try:
        keys = [line.strip() for line in read_bytes(path, _LARGEST_KEY_FILE).decode().splitlines()]
    except (OSError, ValueError) as error:
        raise InvalidExportOption(f"--api_key_file {path} cannot be read: {error}") from None
    keys = [key for key in keys if key and not key.startswith("#")]
    if not keys:
        raise InvalidExportOption(f"--api_key_file {path}: there is no key in it; write one a line")
    return keys
