"""Who works with what at a time: one thread with a loaded program, one call with a scheduler, and only one process."""

import copy
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..errors import DeviceError, PixArtNeuronError, RunError
from ..neuron.troubles import device_reason

_shared_cores = threading.Lock()
"""Held while a program runs that several cores run together: its collectives meet in the order of the calls, which
must be the same on every core."""


def _renew_after_fork() -> None:
    """The thread that held the lock is not in the forked process, which may load a pipeline of its own."""
    global _shared_cores
    _shared_cores = threading.Lock()


os.register_at_fork(after_in_child=_renew_after_fork)


class OneAtATime:
    """A loaded program that threads run in turns, in the process that loaded it.

    It stays on its cores when the pipeline is deep-copied: the copy runs the same one.

    Args:
        program: what `torch.jit.load` or the host's loader returned.
        name: of its component, for messages.
        shared_cores: whether several cores run it together.
    """

    def __init__(self, program: Callable[..., Any], *, name: str, shared_cores: bool) -> None:
        self.program = program
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

    def __deepcopy__(self, memo: dict) -> "OneAtATime":
        return self

    def __reduce__(self) -> NoReturn:
        refuse_pickling()


def check_process(loaded_in: int) -> None:
    """Refuse to run in a process that was forked from the one that loaded the programs: the cores are the latter's.

    Raises:
        DeviceError: names both processes.
    """
    here = os.getpid()
    if here != loaded_in:
        raise DeviceError(
            f"this pipeline was loaded in process {loaded_in}, and this is process {here}; load it in the process that"
            " uses it"
        )


def refuse_pickling() -> NoReturn:
    """DeviceError: what is loaded cannot be sent to another process."""
    raise DeviceError(
        "a loaded program stays in its process; load the pipeline where it is used, with from_pretrained(folder)"
    )


class InItsProcess:
    """An attribute that keeps its owner, but not a copy of it, from being pickled."""

    def __deepcopy__(self, memo: dict) -> "InItsProcess":
        return self

    def __reduce__(self) -> NoReturn:
        refuse_pickling()


class Turn:
    """A lock that is not copied along with what it guards: the copy has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: dict) -> "Turn":
        return Turn()


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
        if not self._take_own(wait=_is_patched(scheduler) and self._holder != threading.get_ident()):
            yield scheduler if _is_patched(scheduler) else _copy(scheduler)
            return
        self._holder = threading.get_ident()
        try:
            yield scheduler
        finally:
            self._holder = None
            self._own.release()

    def _take_own(self, *, wait: bool) -> bool:
        return self._own.acquire(blocking=wait)

    def __deepcopy__(self, memo: dict) -> "SchedulerTurns":
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
