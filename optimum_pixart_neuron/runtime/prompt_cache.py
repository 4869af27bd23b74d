"""Embeddings of the prompts used last, so that a negative prompt or a prompt that comes again is encoded once."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .turns import StaysInItsProcess, Turn

DEFAULT_LIMIT = 32
"""Prompts; at 300 tokens of T5-XXL in float32 one takes 4.9 MB."""


class PromptCache(StaysInItsProcess):
    """A callable like the text encoder's program, which runs it only for prompts that are not kept.

    The key of a prompt is its tokens after cleaning and padding, which are all that its embeddings depend on. Threads
    take turns, so that a prompt that several ask for at once is encoded once.

    Args:
        program: takes input ids (rows, tokens) of any number of rows, and returns a dict of tensors (rows, ...).
        limit: prompts that are kept at most; 0 keeps none.

    Attributes:
        limit: may be changed; holds from the next prompt on.
        hits: rows asked for that were kept, or were asked for twice at once.
        misses: rows that were encoded.
    """

    def __init__(self, program: Callable[[Tensor], dict[str, Tensor]], limit: int = DEFAULT_LIMIT) -> None:
        self.program = program
        self.limit = limit
        self.hits = self.misses = 0
        self._kept: OrderedDict[bytes, dict[str, Tensor]] = OrderedDict()  # last used last
        self._turn = Turn()

    def __call__(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Embeddings of each row; a copy, which the caller may change."""
        if self.limit == 0 or not isinstance(input_ids, Tensor) or input_ids.dim() != 2:
            return self.program(input_ids)  # which refuses what is no batch of tokens
        keys = [row.numpy(force=True).tobytes() for row in input_ids]
        with self._turn:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            missing = {key: row for row, key in enumerate(keys) if key not in found}
            self.hits += len(keys) - len(missing)
            self.misses += len(missing)
            if missing:
                found |= self._encode(input_ids, missing)
            self._keep(found)
        return {name: torch.stack([found[key][name] for key in keys]) for name in found[keys[0]]}

    def _encode(self, input_ids: Tensor, missing: dict[bytes, int]) -> dict[bytes, dict[str, Tensor]]:
        outputs = self.program(input_ids[list(missing.values())])
        # Each row by itself, so that one that is kept does not hold the others.
        return {
            key: {name: tensor[number].clone() for name, tensor in outputs.items()}
            for number, key in enumerate(missing)
        }

    def _keep(self, used: dict[bytes, Any]) -> None:
        for key, embeddings in used.items():
            self._kept[key] = embeddings
            self._kept.move_to_end(key)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all prompts; the counts stay."""
        with self._turn:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
