"""CPU stand-in for the AWS Neuron SDK, for machines without NeuronCores.

`activate()` makes subsets of torch_neuronx, neuronx_distributed, neuronxcc, libneuronxla and torch_xla importable
under their real names. They compile programs to ATen graphs and run them on the CPU, sharded ones by one process per
rank over gloo. It shows what a program computes and whether it would load; it says nothing of hardware's speed.
"""

import logging
import os

from ..hardware import Instance, get_instance

DEFAULT_INSTANCE = "trn1.32xlarge"
INSTANCE_VARIABLE = "NEURON_EMULATOR_INSTANCE"

logger = logging.getLogger(__name__)
_active: Instance | None = None


def activate(instance: str | None = None) -> None:
    """Make the emulated SDK importable in this process. Calling it again changes nothing.

    Sets `NEURON_PLATFORM_TARGET_OVERRIDE` unless it is set: torch_neuronx takes the default compile target from the
    device, which optimum-neuron looks for in /proc and would otherwise take for a trn1.

    The variable `NEURON_EMULATOR_SDK` chooses the release whose versions and refusals it has, 2.26.1 by default.

    Args:
        instance: emulated instance type, as `trn2.48xlarge`; by default the variable `NEURON_EMULATOR_INSTANCE`, then
            `trn1.32xlarge`.

    Raises:
        RuntimeError: a real Neuron SDK is installed, or the emulator is active as another instance.
        ValueError: the instance is not known, or the release.
    """
    global _active
    from . import importing
    from .release import emulated_release

    emulated_release()
    chosen = chosen_instance(instance)
    if _active is not None:
        if instance is not None and chosen != _active:
            raise RuntimeError(f"the emulator is active as {_active.name}: {chosen.name} needs a new process")
        return
    importing.install()
    _active = chosen
    os.environ.setdefault("NEURON_PLATFORM_TARGET_OVERRIDE", chosen.platform_target)
    _announce(f"this is the Neuron EMULATOR on the CPU ({chosen.name}), not Neuron hardware; its speed means nothing")


def become(instance: str) -> None:
    """Emulate another instance from now on, as long as nothing was loaded on this one.

    Args:
        instance: product name, or a family: that of the emulated instance changes nothing.

    Raises:
        RuntimeError: a program was loaded, so that the runtime of this process has its cores.
        ValueError: the instance is not known.
    """
    global _active
    from . import device

    if instance in (emulated_instance().name, emulated_instance().family):
        return
    chosen = chosen_instance(instance)
    if device.is_in_use():
        raise RuntimeError(f"the emulator is active as {emulated_instance().name}: {chosen.name} needs a new process")
    _active = chosen
    os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = chosen.platform_target
    _announce(f"the Neuron EMULATOR is a {chosen.name} from now on")


def make_importable() -> None:
    """Make the emulated SDK importable without becoming an instance yet: enough to look at a program.

    Raises:
        RuntimeError: a real Neuron SDK is installed.
        ValueError: the release of `NEURON_EMULATOR_SDK` is not known.
    """
    from . import importing
    from .release import emulated_release

    emulated_release()
    importing.install()


def is_importable() -> bool:
    """Whether this process imports the emulated SDK."""
    from . import importing

    return importing.is_installed()


def is_active() -> bool:
    """Whether the emulated SDK serves this process as an instance."""
    return _active is not None


def emulated_instance() -> Instance:
    """The instance this process emulates; RuntimeError before `activate`."""
    if _active is None:
        raise RuntimeError("the Neuron emulator is not active: call optimum_pixart_neuron.emulator.activate() first")
    return _active


def chosen_instance(name: str | None = None) -> Instance:
    """What `activate` would emulate; ValueError if the instance is not known, naming the variable that has it."""
    if name:
        return get_instance(name)
    try:
        return get_instance(os.environ.get(INSTANCE_VARIABLE) or DEFAULT_INSTANCE)
    except ValueError as error:
        raise ValueError(f"{INSTANCE_VARIABLE}: {error}") from None


def _announce(text: str) -> None:
    """One line on stderr, also where nobody configured logging; raise the level of this logger to silence it."""
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("optimum_pixart_neuron: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.warning(text)
