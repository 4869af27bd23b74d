"""One way to run the pipeline on cores of an instance, and what one core then has of each program."""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware import Instance
from ..parallel.exchange import EXCHANGES


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One pipeline.

    Attributes:
        instance: the machine.
        mode: "context", "tensor" or "data"; None on one rank.
        ranks: W, logical cores of a program.
        guidance_groups: 2, or 1 without guidance.
        exchange: of context mode, a name of `EXCHANGES`.
    """

    instance: Instance
    mode: str | None
    ranks: int
    guidance_groups: int
    exchange: str | None

    @property
    def cores(self) -> int:
        """Cores that the pipeline holds: programs of one core are loaded on two (`pipeline.py` `load_model`)."""
        return max(self.ranks, 2)

    @property
    def replicas(self) -> int:
        """Pipelines that the instance holds side by side."""
        return self.instance.logical_cores() // self.cores

    @property
    def sequence_ranks(self) -> int:
        return self.ranks // self.guidance_groups if self.mode == "context" else 1

    @property
    def tensor_ranks(self) -> int:
        return self.ranks if self.mode == "tensor" else 1

    @property
    def batches(self) -> int:
        """Compiled batches that are under way at once: copies of the transformer work on one each.

        On one rank a guidance pair takes two copies.
        """
        if self.mode in ("context", "tensor"):
            return 1
        pair_in_one_run = self.guidance_groups == 2 and self.ranks > 1
        return self.cores if pair_in_one_run else self.cores // self.guidance_groups

    def share(self, *, images: int, tokens: int, text_tokens: int) -> TransformerShare:
        """One core's part of a run of the transformer on a batch of `images`."""
        rows = images * (2 if self.guidance_groups == 2 and self.ranks > 1 else 1)
        return TransformerShare(
            given_rows=rows,
            rows=rows // self.guidance_groups if self.mode == "context" else rows,
            tokens=tokens,
            text_tokens=text_tokens,
            sequence_ranks=self.sequence_ranks,
            tensor_ranks=self.tensor_ranks,
            exchange=self.exchange,
        )


@dataclass(frozen=True, kw_only=True)
class TransformerShare:
    """One core's part of a run of the transformer.

    Attributes:
        given_rows: rows that enter the program.
        rows: rows that this core computes.
        tokens: of a whole image.
        text_tokens: of a prompt.
        sequence_ranks: cores that share the tokens of a row.
        tensor_ranks: cores that share each matrix of the blocks.
        exchange: between sequence ranks, a name of `EXCHANGES`; None without.
    """

    given_rows: int
    rows: int
    tokens: int
    text_tokens: int
    sequence_ranks: int = 1
    tensor_ranks: int = 1
    exchange: str | None = None

    @property
    def own_tokens(self) -> int:
        """Tokens of a row that this core computes."""
        return self.tokens // self.sequence_ranks

    def attended(self, heads: int) -> tuple[int, int, int]:
        """Query tokens, key tokens and heads in the self-attention of this core."""
        if self.exchange:
            return EXCHANGES[self.exchange].attended(self.tokens, heads, self.sequence_ranks)
        return self.own_tokens, self.tokens, heads // self.tensor_ranks
