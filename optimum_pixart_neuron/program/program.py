"""The program of one component as rank 0 of W ranks: its ATen graph and its collectives.

Works the same on the SDK and on the emulator: the module is built in the parallel state that NxD's ModelBuilder uses,
and traced with fake tensors while XLA's collectives and the SDK's attention kernel, which take only XLA's tensors, are
replaced by recorders of the same shapes.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ..aten_graph import TracedGraph, largest_live_set, trace_graph
from ..components.common import attention_kernel


@dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the program.

    Attributes:
        kind: "all-reduce", "all-gather", "reduce-scatter" or "all-to-all".
        shape: of the tensor this rank puts in.
        dtype: of that tensor.
        groups: the replica groups, lists of ranks.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    groups: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Bytes that one rank puts in."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    @property
    def bytes_sent(self) -> int:
        """Bytes one rank sends with the ring algorithm.

        all-reduce 2(n-1)/n s, all-gather (n-1) s, reduce-scatter and all-to-all (n-1)/n s; n ranks, s bytes put in.
        """
        ranks = len(self.groups[0])
        sent = {"all-reduce": 2 * self.size / ranks, "all-gather": self.size}.get(self.kind, self.size / ranks)
        return round((ranks - 1) * sent)


@dataclass(frozen=True, kw_only=True)
class TracedProgram:
    """One component's program, not executed.

    Attributes:
        graph: of rank 0.
        collectives: in program order.
    """

    graph: TracedGraph
    collectives: tuple[Collective, ...]

    @cached_property
    def activations(self) -> int:
        """Bytes of the largest set of values alive at once."""
        return largest_live_set(self.graph.graph_module.graph, len(self.graph.weight_names))

    def traffic(self) -> dict[str, dict[str, int]]:
        """For each kind of collective, how many one run of the program makes and the bytes one rank sends in them."""
        kinds: dict[str, dict[str, int]] = {}
        for collective in self.collectives:
            total = kinds.setdefault(collective.kind, {"count": 0, "bytes_sent": 0})
            total["count"] += 1
            total["bytes_sent"] += collective.bytes_sent
        return kinds


def trace_program(
    build: Callable[[], nn.Module], example_inputs: tuple[Tensor, ...], ranks: int, lnc: int = 1
) -> TracedProgram:
    """Trace the module that `build` returns inside a parallel state of `ranks` ranks; nothing is executed.

    Args:
        build: makes the module with parallel layers; its weights may be on the meta device.
        example_inputs: tensors of the shapes and dtypes the program is compiled for.
        lnc: physical cores of a logical one.
    """
    with program_of_rank_0(ranks, lnc) as collectives:
        graph = trace_graph(build(), example_inputs)
    return TracedProgram(graph=graph, collectives=tuple(collectives))


@contextmanager
def program_of_rank_0(ranks: int, lnc: int) -> Iterator[list[Collective]]:
    """Where a component's module can be built for rank 0 and run on tensors without values.

    Yields:
        the collectives that it has called so far, in program order.
    """
    recorder = _Recorder()
    with patch.object(attention_kernel, "launch", _record_kernel), ExitStack() as stack:
        if ranks > 1:
            stack.enter_context(parallel_state_of_rank_0(ranks, lnc))
            stack.enter_context(patch.multiple("torch_xla.core.xla_model", **recorder.stand_ins()))
        yield recorder.collectives


@contextmanager
def parallel_state_of_rank_0(ranks: int, lnc: int) -> Iterator[None]:
    """NxD's tensor-parallel state without processes, as rank 0: as in NxD 0.15 `ModelBuilder.trace`.

    64 ranks of a trn2 form one group at two physical cores a rank; at one they would be half of its 128 cores, which
    NxD puts into two groups.
    """
    import torch_xla.runtime  # noqa: F401  mock_distributed patches it by name
    from neuronx_distributed.parallel_layers import parallel_state
    from neuronx_distributed.trace.mock_torchdist import mock_distributed

    with mock_distributed(world_size=ranks):
        torch.distributed.init_process_group(backend="xla", rank=0, world_size=ranks)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=ranks, skip_collective_init=True, lnc_size=lnc
        )
        was_aot = parallel_state.get_aot_mode()
        parallel_state.set_aot_mode(True)
        try:
            yield
        finally:
            parallel_state.set_aot_mode(was_aot)
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


# One opaque operation in the graph, as on the device; it has no implementation, because nothing executes it.
_LIBRARY = torch.library.Library("pixart_neuron", "DEF")
_LIBRARY.define("attention_kernel(Tensor query, Tensor key, Tensor value) -> Tensor")
torch.library.register_fake(
    "pixart_neuron::attention_kernel", lambda query, key, value: torch.empty_like(query), lib=_LIBRARY
)


def _record_kernel(name: str, lnc: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return torch.ops.pixart_neuron.attention_kernel(query, key, value)


@dataclass
class _Recorder:
    """Stand-ins for `torch_xla.core.xla_model`'s collectives that keep shapes and note what was called."""

    collectives: list[Collective] = field(default_factory=list)

    def stand_ins(self) -> dict[str, Any]:
        """By the name of the function."""
        return {
            "all_reduce": self._all_reduce,
            "all_gather": self._all_gather,
            "reduce_scatter": self._reduce_scatter,
            "all_to_all": self._all_to_all,
        }

    def _note(self, kind: str, tensor: Tensor, groups: list[list[int]]) -> int:
        rows = tuple(tuple(row) for row in groups)
        self.collectives.append(Collective(kind=kind, shape=tuple(tensor.shape), dtype=tensor.dtype, groups=rows))
        return len(rows[0])

    def _all_reduce(self, reduce_type, inputs, scale=1.0, groups=None, cctx=None, pin_layout=True):
        for tensor in [inputs] if isinstance(inputs, Tensor) else inputs:
            self._note("all-reduce", tensor, groups)
        return inputs

    def _all_gather(self, value, dim=0, groups=None, output=None, pin_layout=True, **_):
        return torch.cat([value] * self._note("all-gather", value, groups), dim=dim)

    def _reduce_scatter(self, reduce_type, input, scale, scatter_dim, shard_count, groups=None, *_, **__):
        self._note("reduce-scatter", input, groups)
        return input.narrow(scatter_dim, 0, input.shape[scatter_dim] // shard_count).clone()

    def _all_to_all(self, value, split_dimension, concat_dimension, split_count, groups=None, **_):
        self._note("all-to-all", value, groups)
        return torch.cat(value.chunk(split_count, dim=split_dimension), dim=concat_dimension)
