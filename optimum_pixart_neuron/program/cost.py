"""What one run of a program asks of one core, counted on the program itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import bmm_flop, flop_registry, register_flop_formula

from ..aten_graph import largest_live_set, node_bytes
from .dry_run import record_graph
from .program import Collective, program_of_rank_0

# Rows of the systolic array, and the parts of it that one product may take alone (NKI `nki.isa.nc_matmul`, row tiles).
ARRAY_ROWS = 128
_ROW_TILES = (32, 64, ARRAY_ROWS)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One run of a program on one core.

    Attributes:
        flops: of products and convolutions, as torch's `FlopCounterMode` counts them: 2 m k n for the product of an
            (m, k) and a (k, n) matrix.
        array_flops: the same with every contraction filled up to whole row tiles of the systolic array: what its peak
            is divided into. Heads of 72 channels, for example, take as long as heads of 128.
        exponentials: of softmaxes. They take the Scalar Engine as long as the products take the Tensor Engine.
        weights: bytes of this rank's weights.
        read: bytes of these that a run reads; of an embedding table it reads single rows.
        activations: bytes of the largest set of values alive at once, in program order.
        collectives: how often a run makes each.
    """

    flops: int
    array_flops: int
    exponentials: int
    weights: int
    read: int
    activations: int
    collectives: Mapping[Collective, int]

    @property
    def bytes_sent(self) -> int:
        """Bytes that one rank sends in a run, by the ring algorithm; as many come in."""
        return sum(collective.bytes_sent * count for collective, count in self.collectives.items())

    @classmethod
    def of(
        cls, build: Callable[[], nn.Module], example_inputs: tuple[Tensor, ...], *, ranks: int = 1, lnc: int = 1
    ) -> Cost:
        """Count the program of rank 0 of `ranks` ranks; nothing is compiled and no tensor has values.

        Args:
            build: makes the module on the meta device, with parallel layers; called in a parallel state.
            example_inputs: of the shapes and dtypes that the program is compiled for.
            lnc: physical cores of a logical one.
        """
        with program_of_rank_0(ranks, lnc) as collectives:
            with torch.device("meta"):
                module = build().to("meta")  # what a size decides is made where its values are
            graph, weight_count = record_graph(module, tuple(tensor.to("meta") for tensor in example_inputs))
        weights = list(graph.nodes)[:weight_count]
        operations = [_operation(node) for node in graph.nodes if node.op == "call_function"]
        return cls(
            flops=sum(flops for flops, _, _ in operations),
            array_flops=sum(array_flops for _, array_flops, _ in operations),
            exponentials=sum(exponentials for _, _, exponentials in operations),
            weights=sum(map(node_bytes, weights)),
            read=sum(map(_bytes_read, weights)),
            activations=largest_live_set(graph, weight_count),
            collectives=Counter(collectives),
        )

    def repeated(self, longer: Cost, blocks: int) -> Cost:
        """The cost of a program of `blocks` equal blocks, where this is that of one and `longer` that of two.

        Every count is linear in the blocks. What is alive at once is not: with two of them both the block that has
        others behind it and the last one are in the program, and more of them keep nothing else alive.
        """
        if blocks == 1:
            return self

        def extended(one: int, two: int) -> int:
            return one + (two - one) * (blocks - 1)

        numbers = {
            field.name: extended(getattr(self, field.name), getattr(longer, field.name))
            for field in fields(self)
            if field.name not in ("activations", "collectives")
        }
        collectives = {
            collective: extended(self.collectives.get(collective, 0), count)
            for collective, count in longer.collectives.items()
        }
        return Cost(activations=longer.activations, collectives=collectives, **numbers)


def _bytes_read(weight: fx.Node) -> int:
    """Of a table that is looked up, the rows that come out."""
    if weight.users and all(user.target is torch.ops.aten.embedding.default for user in weight.users):
        return sum(map(node_bytes, weight.users))
    return node_bytes(weight)


def _operation(node: fx.Node) -> tuple[int, int, int]:
    """FLOPs of an operation, the same with filled contractions, and exponentials."""
    packet = getattr(node.target, "overloadpacket", None)
    if packet not in flop_registry:
        return 0, 0, node.meta["val"].numel() if packet is torch.ops.aten._softmax else 0
    args, kwargs = pytree.tree_map_only(fx.Node, lambda used: used.meta["val"], (node.args, node.kwargs))
    flops = flop_registry[packet](*args, **kwargs, out_val=node.meta["val"])
    lengths = _CONTRACTIONS[packet](*args) if packet in _CONTRACTIONS else ()
    # Several products in one operation are of equal size.
    filled = sum(flops // len(lengths) * _filled(length) // length for length in lengths) if lengths else flops
    return flops, filled, _scores(*args) if packet is _KERNEL else 0


def _filled(length: int) -> int:
    """A contraction, filled up to whole row tiles."""
    whole, rest = divmod(length, ARRAY_ROWS)
    return whole * ARRAY_ROWS + (next(tile for tile in _ROW_TILES if tile >= rest) if rest else 0)


_KERNEL = torch.ops.pixart_neuron.attention_kernel
_ATEN = torch.ops.aten
# Packet of an operation -> lengths of the contractions in it, by its arguments.
_CONTRACTIONS: dict[Any, Callable[..., tuple[int, ...]]] = {
    _ATEN.mm: lambda left, right: (left.shape[-1],),
    _ATEN.bmm: lambda left, right: (left.shape[-1],),
    _ATEN.addmm: lambda added, left, right, **_: (left.shape[-1],),
    _ATEN.baddbmm: lambda added, left, right, **_: (left.shape[-1],),
    _ATEN.convolution: lambda image, weight, *_: (weight.shape[1:].numel(),),
    _KERNEL: lambda query, key, value: (query.shape[-1], key.shape[1]),
}


def _scores(query: Tensor, key: Tensor, value: Tensor) -> int:
    return query.shape[0] * query.shape[1] * key.shape[1]


@register_flop_formula(_KERNEL)
def _kernel_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    """Scores of (B * H, Q, D) queries and (B * H, K, D) keys, and the weighted values."""
    heads, queries, width = query
    keys = key[1]
    return bmm_flop(query, (heads, width, keys)) + bmm_flop((heads, queries, keys), value)
