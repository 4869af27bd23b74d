"""Which Neuron SDK this process uses: the installed one, or the emulator in its place.

The only module that knows of the emulator.
"""

import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from ..errors import InvalidExportOption

logger = logging.getLogger(__name__)

LOWERING = {"NEURON_FUSE_SOFTMAX": "1", "NEURON_CUSTOM_SILU": "1"}
"""Variables that optimum-neuron 0.4.5 sets for diffusion pipelines: torch_neuronx's own lowering of softmax and SiLU.
It reads them when it is imported."""


@dataclass(frozen=True, kw_only=True)
class NeuronSdk:
    """The SDK of this process.

    Attributes:
        emulated: whether the emulator stands in for it.
        instance: product name of the machine, real or emulated, such as "trn1.32xlarge"; None without a device.
    """

    emulated: bool
    instance: str | None

    @property
    def has_device(self) -> bool:
        """Whether programs can run here."""
        return self.instance is not None

    def check_program(self, path: Path) -> None:
        """Refuse a file that the emulator did not write before TorchScript, which reads it, runs any code in it.

        On hardware a program is machine code of whoever compiled it, and nothing is checked.

        Raises:
            RuntimeError: one line that says what is wrong with the file.
        """
        if self.emulated:
            from ..emulator.archive import check_archive

            check_archive(path)


def ensure_sdk(instance: str | None = None) -> NeuronSdk:
    """Make the SDK's modules importable, by activating the emulator where no SDK is installed. Idempotent.

    Sets `LOWERING` in the environment, for torch_neuronx, which is imported after this.

    Args:
        instance: what the emulator should be, if it is not active yet; by default its own choice.

    Raises:
        InvalidExportOption: the emulator does not know the instance.
    """
    from .. import emulator

    _choose_lowering()
    if not emulator.is_importable() and find_spec("torch_neuronx") is not None:
        return NeuronSdk(emulated=False, instance=_device_instance())
    if not emulator.is_active():
        try:
            emulator.activate(instance)
        except ValueError as error:
            raise InvalidExportOption(str(error)) from None
    return NeuronSdk(emulated=True, instance=emulator.emulated_instance().name)


def emulated_choice() -> str:
    """Product name of what the emulator would be here by its variables, without becoming it.

    Raises:
        InvalidExportOption: the emulator does not know the instance, or the release of the SDK.
    """
    from ..emulator import chosen_instance
    from ..emulator.release import emulated_release

    try:
        emulated_release()
        return chosen_instance().name
    except ValueError as error:
        raise InvalidExportOption(str(error)) from None


def sdk_for(instance: str) -> NeuronSdk:
    """As `ensure_sdk`, for programs that are compiled and then loaded here.

    The emulator becomes that instance unless programs were loaded on it; the caller looks at what it got.

    Raises:
        InvalidExportOption: the emulator does not know the instance.
    """
    from .. import emulator

    if ensure_sdk(instance).emulated:
        try:
            emulator.become(instance)
        except ValueError as error:
            raise InvalidExportOption(str(error)) from None
        except RuntimeError:
            pass  # it stays what it is
    return ensure_sdk()


def _choose_lowering() -> None:
    missing = {name: value for name, value in LOWERING.items() if os.environ.get(name) != value}
    if missing and "torch_neuronx" in sys.modules:
        logger.warning(
            "torch_neuronx was imported without %s: what this process compiles lacks its own lowering of softmax and"
            " SiLU; set them before the import",
            " and ".join(f"{name}={value}" for name, value in missing.items()),
        )
    os.environ.update(missing)


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Of these distributions, as installed here; without those that are not, and an active emulator's among them."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def ensure_importable() -> None:
    """Make the SDK's modules importable, for code that looks at programs and runs none; nothing is emulated yet.

    Raises:
        InvalidExportOption: the emulator does not know the release that it should be.
    """
    from .. import emulator

    if not emulator.is_importable() and find_spec("torch_neuronx") is None:
        try:
            emulator.make_importable()
        except ValueError as error:
            raise InvalidExportOption(str(error)) from None


def _device_instance() -> str | None:
    from optimum.neuron.utils.system import get_instance_name, get_neuron_major

    return None if get_neuron_major() == -1 else get_instance_name().strip()
