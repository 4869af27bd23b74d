"""What one core sends in one run of each program, collective by collective."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..parallel.exchange import EXCHANGES, HeadAllToAll, KeyValueGather, ring_bytes_sent
from .geometry import TextEncoderSize, TransformerSize
from .placement import Deployment, TransformerShare


@dataclass(frozen=True, kw_only=True)
class Collectives:
    """Equal collectives of one run.

    Attributes:
        kind: as in `ring_bytes_sent`.
        count: of them.
        size: bytes that one rank puts in.
        group: ranks that take part; groups are contiguous.
        ranks: of the program, in `ranks / group` groups.
    """

    kind: str
    count: int
    size: int
    group: int
    ranks: int

    @property
    def bytes_sent(self) -> int:
        """Bytes one rank sends in all of them, ring algorithm; the same number is received."""
        return self.count * ring_bytes_sent(self.kind, self.size, self.group)

    def bytes_over_link(self, cores_per_chip: int) -> float:
        """Bytes that cross the link of a chip in one direction in all of them, the most of any chip.

        A bound for every algorithm, with ranks on adjacent cores: what a chip lacks comes in once. Cores of one chip
        meet in its memory.
        """
        crossing: Counter[int] = Counter()
        for start in range(0, self.ranks, self.group):
            on_chip = Counter(rank // cores_per_chip for rank in range(start, start + self.group))
            chips = len(on_chip)
            for chip, members in on_chip.items():
                others = self.group - members
                crossing[chip] += {
                    "all-reduce": 2 * self.size * (chips - 1) / chips,
                    "all-gather": self.size * others,
                    "all-to-all": self.size * members * others / self.group,
                }[self.kind]
        return self.count * max(crossing.values())


def text_encoder_traffic(
    size: TextEncoderSize, *, rows: int, tokens: int, ranks: int, itemsize: int
) -> list[Collectives]:
    """T5 reduces after attention and after the feed-forward."""
    if ranks == 1:
        return []
    state = itemsize * rows * tokens * size.width
    return [Collectives(kind="all-reduce", count=2 * size.layers, size=state, group=ranks, ranks=ranks)]


def transformer_traffic(
    size: TransformerSize, deployment: Deployment, share: TransformerShare, itemsize: int
) -> list[Collectives]:
    """One prediction: three reductions a block of tensor ranks, one exchange a block of sequence ranks."""
    ranks, states = deployment.ranks, itemsize * share.rows * share.own_tokens * size.width
    if deployment.mode == "tensor":
        return [Collectives(kind="all-reduce", count=3 * size.layers, size=states, group=ranks, ranks=ranks)]
    if deployment.mode != "context":
        return []
    group = {"count": size.layers, "group": share.sequence_ranks, "ranks": ranks}
    exchanges = {
        None: [],
        KeyValueGather.name: [Collectives(kind="all-gather", size=2 * states, **group)],
        HeadAllToAll.name: [
            Collectives(kind="all-to-all", size=3 * states, **group),
            Collectives(kind="all-to-all", size=states, **group),
        ],
    }
    assert set(exchanges) == {None, *EXCHANGES}
    last = itemsize * share.rows * share.own_tokens * size.out_channels * size.patch**2
    between = exchanges[share.exchange] if share.sequence_ranks > 1 else []
    return [*between, Collectives(kind="all-gather", count=1, size=last, group=ranks, ranks=ranks)]
