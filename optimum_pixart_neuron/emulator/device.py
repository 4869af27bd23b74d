"""The emulated Neuron device of this process: visible cores, device memory, and what is placed where.

The Neuron runtime reads `NEURON_RT_VISIBLE_CORES`, `NEURON_RT_NUM_CORES` and the logical core config once, when the
first program is loaded; changing them later has no effect, here as there (Neuron runtime configuration guide).
Unlike on hardware, another process may use the same cores, unless `hold_cores` was called in one that started it.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..hardware import Instance, runtime_cores
from . import emulated_instance
from .compiler_flags import CompilerFlags, target_class


@dataclass(frozen=True)
class Claim:
    """Device memory held on some cores; give it back with `Device.release`. Cores count from the first visible one."""

    cores: tuple[int, ...]
    nbytes: int


@dataclass
class Device:
    """Cores are numbered from 0 among the visible ones, as every torch_neuronx call counts them."""

    instance: Instance
    lnc: int
    visible: range
    used: dict[int, int] = field(default_factory=dict)
    default_placement: tuple[int, int] = (-1, -1)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def memory_per_core(self) -> int:
        """Bytes."""
        return self.instance.hbm_bytes_per_core(self.lnc)

    def check_flags(self, flags: CompilerFlags) -> None:
        """RuntimeError when a program was compiled for another chip or another logical core config."""
        if flags.target_class != target_class(self.instance.compile_target):
            raise RuntimeError(
                f"the program was compiled for {flags.target} and cannot load on {self.instance.name}: "
                f"compile with --target {self.instance.compile_target}"
            )
        if flags.lnc != self.lnc:
            raise RuntimeError(
                f"the program was compiled with --lnc {flags.lnc}, {self.instance.name} runs logical core config "
                f"{self.lnc}: compile with --lnc {self.lnc} or set NEURON_LOGICAL_NC_CONFIG={flags.lnc}"
            )

    def check_cores(self, start: int, count: int) -> None:
        """RuntimeError when `count` cores from `start` on are not all visible."""
        if start < 0 or start + count > len(self.visible):
            raise RuntimeError(
                f"cores {start} to {start + count - 1} are needed, {len(self.visible)} are visible on "
                f"{self.instance.name}: change NEURON_RT_NUM_CORES or NEURON_RT_VISIBLE_CORES before the first load"
            )

    def claim(self, cores: Iterable[int], nbytes: int) -> Claim:
        """Reserve `nbytes` on each core; RuntimeError names the first core that has not enough left."""
        capacity = self.memory_per_core
        cores = tuple(cores)
        with self._lock:
            for core in cores:
                left = capacity - self.used.get(core, 0)
                if nbytes > left:
                    raise RuntimeError(
                        f"out of device memory on core {core}: {_gib(nbytes)} needed, {_gib(left)} free of "
                        f"{_gib(capacity)}: use more cores, a smaller shape or bfloat16"
                    )
            for core in cores:
                self.used[core] = self.used.get(core, 0) + nbytes
        return Claim(cores, nbytes)

    def release(self, claim: Claim) -> None:
        with self._lock:
            for core in claim.cores:
                self.used[core] -= claim.nbytes

    @contextmanager
    def placing(self, start: int, count: int) -> Iterator[None]:
        """Within it, programs without a place of their own go to `count` cores from `start` on (-1: undecided)."""
        previous, self.default_placement = self.default_placement, (start, count)
        try:
            yield
        finally:
            self.default_placement = previous

    def least_used_core(self) -> int:
        """Where a program goes that was not placed: the visible core with most memory left, lowest first."""
        with self._lock:
            return min(range(len(self.visible)), key=lambda core: (self.used.get(core, 0), core))


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB"


# Environment variable with the id of the process that holds the cores; those that it starts inherit it.
_HOLDER = "NEURON_EMULATOR_HELD_BY"
_device: Device | None = None
_creation = threading.Lock()


def current_device() -> Device:
    """The device, initialised at the first call; RuntimeError when the environment asks for what is not there."""
    global _device
    with _creation:
        if _device is None:
            _check_not_held()
            instance = emulated_instance()
            try:
                cores = runtime_cores(instance, os.environ)
            except ValueError as error:
                raise RuntimeError(str(error)) from None
            _device = Device(instance, cores.lnc, cores.visible)
        return _device


def hold_cores() -> None:
    """Start the runtime now: its cores are this process's until it ends, and no process that it starts gets them.

    RuntimeError when another process has them already.
    """
    current_device()
    os.environ[_HOLDER] = str(os.getpid())


def _check_not_held() -> None:
    holder = os.environ.get(_HOLDER)
    if holder and holder != str(os.getpid()) and os.path.exists(f"/proc/{holder}"):
        raise RuntimeError(
            f"NRT:nrt_allocate_neuron_cores NeuronCore(s) not available: process {holder} holds them until it ends"
        )


def is_in_use() -> bool:
    """Whether the runtime of this process has taken its cores."""
    return _device is not None


def reset_device() -> None:
    """Forget the device, so that the next load reads the environment again. For tests: a real runtime cannot."""
    global _device
    with _creation:
        _device = None
    if os.environ.get(_HOLDER) == str(os.getpid()):
        del os.environ[_HOLDER]
