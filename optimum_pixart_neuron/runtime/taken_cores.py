"""The cores that the Neuron runtime took for this process: it reads its variables once, at the first load.

The host's loader sets `NEURON_RT_NUM_CORES` to the ranks of the pipeline at hand (optimum-neuron 0.4.5
`set_neuron_visible_cores`), so the first pipeline decides for all that follow.
"""

from ..errors import DeviceError

_taken: int | None = None


def check_taken(folder: object, cores: int) -> None:
    """Refuse, by DeviceError, a pipeline that needs more cores than the runtime took, before anything is loaded."""
    if _taken is not None and cores > _taken:
        raise DeviceError(
            f"{folder}: it needs {cores} cores, and the first pipeline of this process started the runtime with"
            f" {_taken}; load it in a process of its own, or set NEURON_RT_VISIBLE_CORES=0-{cores - 1} before the"
            " first load"
        )


def note_taken(cores: int) -> None:
    """Remember what the runtime had when a program was loaded; only the first counts."""
    global _taken
    _taken = _taken or cores


def forget_taken() -> None:
    """For tests that start the emulated runtime anew."""
    global _taken
    _taken = None
