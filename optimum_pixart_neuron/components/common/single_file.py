"""What a part of a checkpoint knows of files that hold it alone, under the names of its first authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...files import TensorEntry


@dataclass(frozen=True)
class Piece:
    """Where a weight lies in a file.

    Attributes:
        name: of the tensor in the file.
        number: of the share of its rows.
        count: of shares.
    """

    name: str
    number: int = 0
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class SingleFile:
    """The functions take what a file's header says of its tensors, and the file for messages, and raise
    CheckpointError.

    Attributes:
        is_one: whether a header is of such a file.
        pieces: weights by their names in diffusers -> where they lie.
        configuration: diffusers' `config.json`, from the shapes.
    """

    is_one: Callable[[Mapping[str, TensorEntry]], bool]
    pieces: Callable[[Mapping[str, TensorEntry], object], dict[str, Piece]]
    configuration: Callable[[Mapping[str, TensorEntry], object], dict[str, Any]]
