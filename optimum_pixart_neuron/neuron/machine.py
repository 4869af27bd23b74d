"""What this machine offers a process: instance, logical core config, and the cores that the runtime may take.

Both the installed runtime and the emulator go by the same variables, see `hardware.runtime_cores`.
"""

import os
from dataclasses import dataclass

from ..errors import DeviceError
from ..hardware import FAMILIES, Instance, get_instance, runtime_cores
from .sdk import NeuronSdk


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where programs of this process are loaded.

    Attributes:
        name: product name, such as "trn1.32xlarge".
        instance: what is known of it, or of the largest instance of its family.
        lnc: physical cores behind a logical one.
        cores: visible logical cores.
        first_core: number of the first of them on the machine.
        cores_from: what sets their number, for messages: a variable with its value, or the instance.
    """

    name: str
    instance: Instance
    lnc: int
    cores: int
    first_core: int
    cores_from: str

    @classmethod
    def of(cls, sdk: NeuronSdk) -> "Machine":
        """Read the environment.

        Raises:
            DeviceError: the machine has no NeuronCore or is of an unknown kind, or a variable has a value that the
                runtime cannot take or names cores that the machine does not have.
        """
        if sdk.instance is None:
            raise DeviceError("loading it needs a machine with NeuronCores")
        instance = _instance(sdk.instance)
        try:
            found = runtime_cores(instance, os.environ)
        except ValueError as error:
            raise DeviceError(str(error)) from None
        return cls(
            name=sdk.instance,
            instance=instance,
            lnc=found.lnc,
            cores=len(found.visible),
            first_core=found.visible.start,
            cores_from=found.chosen_by or sdk.instance,
        )


def _instance(name: str) -> Instance:
    family = name.partition(".")[0]
    try:
        return get_instance(name)
    except ValueError as error:
        if family in FAMILIES:
            return get_instance(family)
        raise DeviceError(f"this machine is an {error}") from None
