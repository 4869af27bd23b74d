"""Errors that a user can mend; each is one line, and the command line exits with its status."""

from collections.abc import Sequence
from pathlib import Path

_LONGEST_MESSAGE = 2000  # characters


class PixArtNeuronError(Exception):
    """Base of all errors raised for the user.

    The message is one line, whatever it quotes: line ends and control characters of names that come from files are
    written as escapes, and what is too long is cut.

    Attributes:
        exit_status: What the command line exits with.
    """

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message, _LONGEST_MESSAGE))


class InvalidExportOption(PixArtNeuronError):
    """A flag or argument of the export has a value that the model or the instance cannot have."""

    exit_status = 2


class InvalidArgument(PixArtNeuronError, TypeError):
    """A function does not take an argument of that name, or not of that type."""

    exit_status = 2


class CheckpointError(PixArtNeuronError):
    """The model is not a complete PixArt-Sigma checkpoint."""

    exit_status = 2


class ShardingPlanError(PixArtNeuronError):
    """A sharding plan and the module it is for do not match one to one; a defect of this package or its versions."""


class CompilationFailed(PixArtNeuronError, RuntimeError):
    """The compiler ended without a program; what was finished before is kept for the next run.

    Attributes:
        component: that it was to compile.
        log: where its log is kept; None where it wrote none.
    """

    exit_status = 4

    def __init__(self, component: str, reason: str, log: Path | None) -> None:
        where = f"; its log is {log}" if log else ""
        super().__init__(f"{component} could not be compiled: {reason}{where}")
        self.component, self.log = component, log


class DeviceError(PixArtNeuronError):
    """What was asked for needs a NeuronCore, and this machine has none to offer, or it fails there."""


class ProgramInputError(PixArtNeuronError, ValueError):
    """A call does not fit the compiled program."""


class ArtifactError(PixArtNeuronError):
    """A folder of compiled artifacts is not whole, or is not for this machine."""

    exit_status = 2


class LoadError(DeviceError, RuntimeError):
    """The runtime or optimum-neuron refuses the programs of a folder that is whole and for this machine."""


class RunError(DeviceError, RuntimeError):
    """A loaded program failed while it ran."""


class OutputFull(PixArtNeuronError):
    """The disk has no room for what is written: the export, or files that are needed meanwhile."""


class ValidationFailed(PixArtNeuronError):
    """A compiled component does not compute what the original does."""

    exit_status = 3


class PicturesMissing(PixArtNeuronError):
    """Some of the pictures of a job could not be drawn; the others are there."""

    exit_status = 3


class HubError(PixArtNeuronError):
    """Artifacts cannot be pushed to the Hugging Face Hub, or pulled from it."""


def printable(text: object, longest: int = 80) -> str:
    """Text of unknown origin as it may be shown in a terminal: characters that do not print as escapes, cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def some_of(names: Sequence[object], more: str = "more") -> str:
    """The first three of some names of unknown origin, and the number of the others."""
    shown, left = ", ".join(map(printable, names[:3])), len(names) - 3
    return f"{shown} and {left} {more}" if left > 0 else shown


def one_line(error: BaseException) -> str:
    """The line of another library's error that says what is wrong.

    TorchScript puts its own trace in front of it, and where Python raised it, Python's stack follows.
    """
    message = str(error).partition("\n\nAt:\n")[0]
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1].rpartition("RuntimeError: ")[2] if lines else type(error).__name__
