"""Stand-ins for NKI kernels, which are machine code of NeuronCores: the same call, computed by PyTorch.

The only one is the attention kernel of SDK 2.26 (neuronxcc 2.21 `nki.isa.attention_kernel`) in its unmasked variant.
The sizes it takes are those that neuronx-distributed-inference 0.6 `attention_base.py` allows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from . import collectives
from .collectives import NAMESPACE

MAX_HEAD_WIDTH = 128
MIN_TOKENS = 512
# On two physical cores: a multiple of the minimum, or at least this many.
MIN_UNEVEN_TOKENS = 1024

_VARIANT = "AttentionMMSoftmaxMMWithoutSwap"
_UNEMULATED = ("AttentionMMSoftmaxMM", "CausalAttentionMMSoftmaxMMWithoutSwap")

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")


@dataclass(frozen=True)
class PhysicalCores:
    """A launch grid's one dimension; RuntimeError for a number that no logical core has."""

    count: int

    def __post_init__(self) -> None:
        if self.count not in (1, 2):
            raise RuntimeError(f"nc({self.count}): a logical core has 1 or 2 physical cores")


@dataclass(frozen=True)
class StandIn:
    """What a kernel's name is bound to here; `nki_jit` makes it callable."""

    name: str
    run: Callable[..., None]

    def __call__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError(f"{self.name} is an NKI kernel: call nki_jit()({self.name})")


@dataclass(frozen=True)
class Launcher:
    """What `nki_jit` returns: called as it is on one physical core, or indexed with a grid first."""

    kernel: StandIn
    cores: int = 1

    def __getitem__(self, grid: Any) -> "Launcher":
        if not (isinstance(grid, tuple) and len(grid) == 1 and isinstance(grid[0], PhysicalCores)):
            raise RuntimeError(f"{self.kernel.name}: launch grid {grid!r} is not emulated, give (nc(2),) or none")
        return Launcher(self.kernel, grid[0].count)

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        if not collectives.is_tracing():
            raise RuntimeError(f"{self.kernel.name} runs only inside a compiled program, not eagerly on the CPU")
        self.kernel.run(self.cores, *arguments, **keywords)


def attention(
    cores: int, q: Tensor, k: Tensor, v: Tensor, scale: float, out: Tensor, kernel_name: str = _UNEMULATED[0]
) -> None:
    """softmax(scale * q k) v, written into `out`. N sequences, d channels, S query and K key tokens.

    Args:
        cores: physical cores of the launch grid.
        q: (N, d, S) bfloat16.
        k: (N, d, K) bfloat16.
        v: (N, K, d) bfloat16.
        scale: of the scores, before the softmax in float32.
        out: (N, S, d) bfloat16.
        kernel_name: the variant; the kernel's own default is one without a stand-in.

    Raises:
        RuntimeError: an argument or a size that the kernel does not take, or that has no stand-in.
    """
    if kernel_name != _VARIANT:
        known = "is not emulated" if kernel_name in _UNEMULATED else "is unknown"
        raise RuntimeError(f"attention_isa_kernel: kernel_name {kernel_name!r} {known}, give {_VARIANT!r}")
    if not isinstance(scale, float):
        raise RuntimeError(f"attention_isa_kernel: scale is a {type(scale).__name__}, give a Python float")
    for name, tensor in {"q": q, "k": k, "v": v, "out": out}.items():
        if tensor.dtype != torch.bfloat16 or tensor.dim() != 3:
            given = f"{tensor.dim()} dimensions of {str(tensor.dtype).removeprefix('torch.')}"
            raise RuntimeError(f"attention_isa_kernel: {name} has {given}, give 3 of bfloat16")
    (sequences, width, queries), keys = q.shape, k.shape[2]
    expected = {"k": (sequences, width, keys), "v": (sequences, keys, width), "out": (sequences, queries, width)}
    for name, tensor in {"k": k, "v": v, "out": out}.items():
        if tuple(tensor.shape) != expected[name]:
            shapes = f"{name} has shape {list(tensor.shape)}, q {list(q.shape)} and k {list(k.shape)}"
            raise RuntimeError(f"attention_isa_kernel: {shapes} need {list(expected[name])}")
    if width > MAX_HEAD_WIDTH:
        raise RuntimeError(f"attention_isa_kernel: heads of {width} channels, it takes at most {MAX_HEAD_WIDTH}")
    for name, tokens in {"query": queries, "key": keys}.items():
        uneven = cores == 2 and tokens < MIN_UNEVEN_TOKENS and tokens % MIN_TOKENS
        if tokens < MIN_TOKENS or uneven:
            asked = f"at least {MIN_TOKENS}, and on nc(2) multiples of {MIN_TOKENS} below {MIN_UNEVEN_TOKENS}"
            raise RuntimeError(f"attention_isa_kernel: {tokens} {name} tokens, it takes {asked}")
    torch.ops.neuron_emulator.attention(out, q, k, v, scale, cores)


def check_launches(graph: fx.GraphModule, lnc: int) -> None:
    """Raise RuntimeError when a kernel is launched on other physical cores than the program's logical core has."""
    for node in graph.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.name == f"{NAMESPACE}::attention" and node.args[-1] != lnc:
            raise RuntimeError(
                f"the attention kernel is launched on {node.args[-1]} physical core(s), the program is compiled with "
                f"--lnc {lnc}: launch it {'on the grid (nc(2),)' if lnc == 2 else 'without a grid'}"
            )


def _attention(out: Tensor, q: Tensor, k: Tensor, v: Tensor, scale: float, cores: int) -> None:
    # A batch of 1 with dense rows is what PyTorch's flash attention takes: it never holds all scores.
    query, key, value = (tensor.contiguous()[None] for tensor in (q.transpose(1, 2), k.transpose(1, 2), v))
    out.copy_(F.scaled_dot_product_attention(query, key, value, scale=scale)[0])


_LIBRARY.define("attention(Tensor(a!) out, Tensor q, Tensor k, Tensor v, float scale, int cores) -> ()")
_LIBRARY.impl("attention", _attention, "CPU")
torch.library.register_fake(f"{NAMESPACE}::attention", lambda out, q, k, v, scale, cores: None, lib=_LIBRARY)
