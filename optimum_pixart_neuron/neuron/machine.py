"""What this machine offers a process: instance, logical core config, and the cores that the runtime may take.

The Neuron runtime reads these variables once, when it loads its first program (SDK, Neuron runtime configuration
guide). Both the installed runtime and the emulator go by them.
"""

import os
from dataclasses import dataclass

from ..errors import DeviceError
from ..hardware import FAMILIES, Instance, get_instance
from .sdk import NeuronSdk

# The second is the older name of the first (NxD 0.15 and the AWS samples still set it).
LNC_VARIABLES = ("NEURON_LOGICAL_NC_CONFIG", "NEURON_RT_VIRTUAL_CORE_SIZE")
# The first wins where both are set.
CORE_VARIABLES = ("NEURON_RT_VISIBLE_CORES", "NEURON_RT_NUM_CORES")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where programs of this process are loaded.

    Attributes:
        name: product name, such as "trn1.32xlarge".
        instance: what is known of it, or of the largest instance of its family.
        lnc: physical cores behind a logical one.
        cores: visible logical cores.
        cores_from: what sets their number, for messages: a variable with its value, or the instance.
    """

    name: str
    instance: Instance
    lnc: int
    cores: int
    cores_from: str

    @classmethod
    def of(cls, sdk: NeuronSdk) -> "Machine":
        """Read the environment.

        Raises:
            DeviceError: the machine has no NeuronCore or is of an unknown kind, or a variable has a value that the
                runtime cannot take.
        """
        if sdk.instance is None:
            raise DeviceError("loading it needs a machine with NeuronCores")
        instance = _instance(sdk.instance)
        lnc = _lnc(instance)
        cores, cores_from = _visible_cores(instance.logical_cores(lnc))
        return cls(name=sdk.instance, instance=instance, lnc=lnc, cores=cores, cores_from=cores_from or sdk.instance)


def _instance(name: str) -> Instance:
    family = name.partition(".")[0]
    try:
        return get_instance(name)
    except ValueError as error:
        if family in FAMILIES:
            return get_instance(family)
        raise DeviceError(f"this machine is an {error}") from None


def _lnc(instance: Instance) -> int:
    for variable in LNC_VARIABLES:
        value = os.environ.get(variable)
        if value:
            if value not in map(str, instance.lnc_options):
                options = " or ".join(map(str, instance.lnc_options))
                raise DeviceError(f"{variable}={value}: {instance.name} offers {options}; set it so, or unset it")
            return int(value)
    return instance.default_lnc


def _visible_cores(present: int) -> tuple[int, str]:
    """Number of visible cores of `present`, and the variable that sets it."""
    for variable, count in zip(CORE_VARIABLES, (_count_listed, _count_asked)):
        value = os.environ.get(variable)
        if value:
            try:
                return count(value, present), f"{variable}={value}"
            except ValueError:
                raise DeviceError(
                    f"{variable}={value} is no core, range of cores (0-7) or number of cores; change or unset it"
                ) from None
    return present, ""


def _count_listed(text: str, present: int) -> int:
    """Cores named by "3", "0-7" or, as newer runtimes take it, "0,2-3", as far as the machine has them."""
    named = set()
    for part in text.split(","):
        first, separator, last = part.partition("-")
        named |= set(range(int(first), int(last if separator else first) + 1))
    return len(named & set(range(present)))


def _count_asked(text: str, present: int) -> int:
    asked = int(text)
    if asked < 0:
        raise ValueError(text)
    return min(asked or present, present)
