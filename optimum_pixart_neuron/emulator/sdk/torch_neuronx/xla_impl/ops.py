"""Emulated torch_neuronx.xla_impl.ops: launching the NKI kernels that have a stand-in."""

from collections.abc import Callable
from typing import Any

from optimum_pixart_neuron.emulator.kernels import Launcher, StandIn


def nki_jit(**options: Any) -> Callable[[Any], Launcher]:
    """A decorator that makes an NKI kernel callable; RuntimeError for kernels that have no stand-in."""
    if options:
        raise RuntimeError(f"nki_jit: {', '.join(options)} has no meaning on the emulator, call nki_jit()")

    def make_callable(kernel: Any) -> Launcher:
        if not isinstance(kernel, StandIn):
            name = getattr(kernel, "__name__", repr(kernel))
            raise RuntimeError(f"nki_jit: the emulator has no stand-in for {name}, use PyTorch operations here")
        return Launcher(kernel)

    return make_callable


def xla_hlo_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Accept the decoration of a hand-written HLO operation; calling it raises RuntimeError."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{function.__name__}: the emulator cannot run hand-written HLO")

    return refuse
