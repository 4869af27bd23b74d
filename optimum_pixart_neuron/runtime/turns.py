"""Who works with what at a time: one thread with a loaded program, one call with a scheduler, and only one process."""

from __future__ import annotations

import copy
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from ..artifact.held_weights import weights_of
from ..errors import DeviceError, InvalidArgument, PixArtNeuronError, RunError
from ..neuron.troubles import device_reason

if TYPE_CHECKING:
    from typing_extensions import Self

_shared_cores = threading.Lock()
"""Held while a program runs that several cores run together: its collectives meet in the order of the calls, which
must be the same on every core."""


def _renew_after_fork() -> None:
    """The thread that held the lock is not in the forked process, which may load a pipeline of its own."""
    global _shared_cores
    _shared_cores = threading.Lock()


os.register_at_fork(after_in_child=_renew_after_fork)


class StaysInItsProcess:
    """What a copied pipeline shares with the one it is a copy of, as its cores, and no other process gets."""

    def __deepcopy__(self, memo: dict) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise DeviceError(
            "a loaded program stays in its process; load the pipeline where it is used, with from_pretrained(folder)"
        )


class OneAtATime(StaysInItsProcess):
    """A loaded program that threads run in turns, in the process that loaded it.

    Args:
        program: what `torch.jit.load` or the host's loader returned.
        name: of its component, for messages.
        shared_cores: whether several cores run it together.
    """

    def __init__(self, program: Callable[..., Any], *, name: str, shared_cores: bool) -> None:
        self.program: Any = program
        self.name = name
        self._turn = _shared_cores if shared_cores else threading.Lock()
        self._process = os.getpid()

    def __call__(self, *tensors: Any, **named: Any) -> Any:
        """Run it.

        Raises:
            DeviceError: this process is not the one that loaded it.
            RunError: it failed; with the runtime's reason, and its cause and remedy where they are known.
        """
        check_process(self._process)
        try:
            with self._turn:
                return self.program(*tensors, **named)
        except PixArtNeuronError:
            raise
        except RuntimeError as error:
            raise RunError(f"{self.name} failed while it ran: {device_reason(error)}") from error

    def initialize(self, weights: list[dict[str, torch.Tensor]]) -> None:
        """Begin again with other weights, one dict a rank; of an NxD program only.

        NxD's `NxDModel.initialize` (0.15 `trace/spmd.py`), which is what loading calls: it takes the weights as they
        lie in their files, each time.

        Raises:
            DeviceError: this process is not the one that loaded it.
        """
        check_process(self._process)
        with self._turn:
            self.program.nxd_model.initialize(weights, torch.tensor([0], dtype=torch.int32))

    def replace_weights(self, weights: Mapping[str, torch.Tensor], core: int) -> None:
        """Have other weights; of a program of one core whose file holds them apart from its machine code.

        `torch_neuronx.replace_weights` itself: optimum-neuron's wrapper leaves out names with a digit behind a letter
        (0.4.5). New weights are in the host's memory, from where they go to the core as when it was loaded.

        Args:
            weights: all that it has, by state-dict name.
            core: that it is on.

        Raises:
            DeviceError: this process is not the one that loaded it.
            RuntimeError: it did not take one of them.
        """
        import torch_neuronx

        check_process(self._process)
        with self._turn:
            torch_neuronx.replace_weights(self.program, dict(weights))
            held = weights_of(self.program)
            wrong = [name for name, tensor in weights.items() if not torch.equal(held[name].cpu(), tensor)]
            if wrong:
                raise RuntimeError(f"{len(wrong)} of {len(weights)} weights were not taken, such as {wrong[0]}")
            torch_neuronx.move_trace_to_device(self.program, core)


def check_process(loaded_in: int) -> None:
    """Refuse, by DeviceError, a process forked from the one that loaded the programs: the latter has the cores."""
    here = os.getpid()
    if here != loaded_in:
        raise DeviceError(
            f"this pipeline was loaded in process {loaded_in}, and this is process {here}; load it in the process that"
            " uses it"
        )


class Turn:
    """A lock that is not copied along with what it guards: the copy has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: dict) -> Turn:
        return Turn()


class CallsOrChange(StaysInItsProcess):
    """Any number of calls of a pipeline at once, or one change of its weights and no call.

    A change waits for the calls that are under way, and later calls wait for it; a call inside a call, as a callback
    may make it, does not. Copies of a pipeline run the same programs, so they share this.
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._calls: Counter[int] = Counter()  # under way, by thread
        self._waiting = 0  # changes
        self._changing = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Within it, the weights stay as they are."""
        thread = threading.get_ident()
        with self._state:
            self._state.wait_for(lambda: self._calls[thread] or not (self._changing or self._waiting))
            self._calls[thread] += 1
        try:
            yield
        finally:
            with self._state:
                self._calls[thread] -= 1
                self._calls += Counter()  # without those that are at zero
                self._state.notify_all()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Within it, no call is under way; InvalidArgument from inside a call, which would wait for itself."""
        with self._state:
            if self._calls[threading.get_ident()]:
                raise InvalidArgument("weights cannot be changed from inside a call; do it when the call is over")
            self._waiting += 1
            try:
                self._state.wait_for(lambda: not self._calls and not self._changing)
                self._changing = True
            finally:
                self._waiting -= 1
                self._state.notify_all()
        try:
            yield
        finally:
            with self._state:
                self._changing = False
                self._state.notify_all()


class SchedulerTurns:
    """Gives each call of a pipeline a scheduler that no other call steps.

    diffusers' schedulers hold the state of one denoising run, from `set_timesteps` on. The first call takes the
    pipeline's own, so that callbacks and whoever looks afterwards find that state where diffusers leaves it; calls
    that come while it works, from other threads or from a callback, get a copy.
    """

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._holder: int | None = None

    @contextmanager
    def take(self, scheduler: Any) -> Iterator[Any]:
        """Within it, the scheduler that this call may use."""
        if not self._own.acquire(blocking=_is_patched(scheduler) and self._holder != threading.get_ident()):
            yield scheduler if _is_patched(scheduler) else _copy(scheduler)
            return
        self._holder = threading.get_ident()
        try:
            yield scheduler
        finally:
            self._holder = None
            self._own.release()

    def __deepcopy__(self, memo: dict) -> SchedulerTurns:
        return SchedulerTurns()


def _is_patched(scheduler: Any) -> bool:
    """Whether somebody put a function over a method of this instance: it may be bound to it, as a copy's cannot."""
    return any(callable(value) and hasattr(type(scheduler), name) for name, value in vars(scheduler).items())


def _copy(scheduler: Any) -> Any:
    """A copy with the same settings, also while another thread steps the original: a run begins with `set_timesteps`,
    which forgets the state of the run before."""
    copied = copy.copy(scheduler)
    vars(copied).update(copy.deepcopy(vars(copied)))
    return copied
