"""Emulated torch_neuronx.xla_impl.ops: importable for the modules that name it, without kernels."""

from collections.abc import Callable
from typing import Any


def nki_jit(*_: Any, **__: Any) -> Callable[..., Any]:
    """RuntimeError: NKI kernels are machine code for NeuronCores, use PyTorch operations on the emulator."""
    raise RuntimeError("nki_jit: the emulator cannot run NKI kernels, use PyTorch operations here")


def xla_hlo_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Accept the decoration of a hand-written HLO operation; calling it raises RuntimeError."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{function.__name__}: the emulator cannot run hand-written HLO")

    return refuse
