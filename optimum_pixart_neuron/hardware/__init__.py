"""Facts about the AWS instances with NeuronCores, each with its source, and which cores a process takes of one.

Sources (AWS Neuron SDK documentation):
    [arch]  about-neuron/arch/neuron-hardware/{inf2,trn1,trn2}-arch.rst and {inferentia2,trainium,trainium2}.rst:
            chips, cores, device memory, peaks, device memory bandwidth, NeuronLink, host memory.
    [nki]   nki/guides/architecture/{trainium_inferentia2,trainium2}_arch.rst, "Compute Engine Specifications": the
            Scalar Engine evaluates one function, such as exp, on each of 128 lanes a cycle, at 1.4 and 1.2 GHz.
    [core]  about-neuron/arch/neuron-hardware/neuron-core-v2.rst and neuron-core-v3.rst: cores per chip.
    [lnc]   about-neuron/arch/neuron-features/logical-neuroncore-config.rst: which LNC a chip offers, the default, and
            the device memory that a logical core sees (trn2: one 24 GiB bank per pair of physical cores).
    [cores] neuron-runtime/guides/nrt-developer-guide.rst and configuration-guide.rst: the variables by which a process
            chooses its cores, and which of them goes first.
    [group] neuron-runtime guides on collectives and its release notes: at LNC 2 a program on several cores of trn2
            takes 4 of one chip, 8 of two adjacent chips or 16 of four in a row (4 adjacent ones from runtime 2.23
            on). The runtime's older list of world sizes, which is trn1's, has 1, 2, 8, 16 and multiples of 32.
    [chip]  not in the SDK documentation: derived from one chip of the larger instance.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

GIB = 1024**3
TERA = 10**12


@dataclass(frozen=True, kw_only=True)
class _Chip:
    """One accelerator chip. Peaks are dense operations per second, exponentials those of all its Scalar Engines per
    second; bandwidths are bytes per second. `groups` are the numbers of logical cores that a program may run on, empty
    where nothing is known to be refused; on `disputed_groups` the sources do not agree.
    """

    physical_cores: int
    lnc_options: tuple[int, ...]
    default_lnc: int
    hbm_bytes: int
    bf16_flops: float
    fp32_flops: float
    exponentials: float
    hbm_bandwidth: float
    compile_target: str
    groups: tuple[int, ...] = ()
    disputed_groups: tuple[int, ...] = ()


# [arch], [core]: two cores of 95 TFLOPS, 32 GiB at 820 GiB/s; [lnc]: no logical cores before trn2.
_INFERENTIA2 = _Chip(
    physical_cores=2,
    lnc_options=(1,),
    default_lnc=1,
    hbm_bytes=32 * GIB,
    bf16_flops=190 * TERA,
    fp32_flops=47.5 * TERA,
    exponentials=2 * 128 * 1.4e9,
    hbm_bandwidth=820 * GIB,
    compile_target="inf2",
)
_TRAINIUM1 = replace(_INFERENTIA2, compile_target="trn1")  # [arch], [core]: the same figures
# [arch], [core]: eight cores, 667 TFLOPS, 96 GiB at 2.9 TB/s; [lnc]: two physical cores form a logical one by default.
_TRAINIUM2 = _Chip(
    physical_cores=8,
    lnc_options=(1, 2),
    default_lnc=2,
    hbm_bytes=96 * GIB,
    bf16_flops=667 * TERA,
    fp32_flops=181 * TERA,
    exponentials=8 * 128 * 1.2e9,
    hbm_bandwidth=2.9 * TERA,
    compile_target="trn2",
    groups=(1, 4, 8, 16),  # [group]
    disputed_groups=(2, 32, 64),  # [group]: in the older list alone
)


@dataclass(frozen=True)
class Instance:
    """One instance type.

    Attributes:
        name: product name, as `trn1.32xlarge`.
        link_bandwidth: NeuronLink bytes per second and chip; None where the chips are not linked or there is one.
        host_memory_bytes: RAM of the host.
    """

    name: str
    chips: int
    chip: _Chip
    link_bandwidth: float | None
    host_memory_bytes: int

    @property
    def family(self) -> str:
        """`inf2`, `trn1`, `trn1n` or `trn2`, the names optimum-neuron and neuronx-cc use."""
        return self.name.split(".")[0].removesuffix("u")

    @property
    def physical_cores(self) -> int:
        return self.chips * self.chip.physical_cores

    @property
    def lnc_options(self) -> tuple[int, ...]:
        return self.chip.lnc_options

    @property
    def default_lnc(self) -> int:
        return self.chip.default_lnc

    @property
    def compile_target(self) -> str:
        """What neuronx-cc's `--target` is given; trn1n compiles under its own name."""
        return self.family if self.family == "trn1n" else self.chip.compile_target

    @property
    def platform_target(self) -> str:
        """Value of `NEURON_PLATFORM_TARGET_OVERRIDE`: optimum-neuron 0.4.5 compiles for inf2 and trn1n as trn1."""
        return "trn2" if self.family == "trn2" else "trn1"

    def logical_cores(self, lnc: int | None = None) -> int:
        """Cores a program can be placed on, at `lnc` physical cores each (default: the instance's own)."""
        return self.physical_cores // self._lnc(lnc)

    def hbm_bytes_per_core(self, lnc: int | None = None) -> int:
        """Device memory per logical core: an equal share of the chip's."""
        return self.chip.hbm_bytes * self._lnc(lnc) // self.chip.physical_cores

    def bf16_flops_per_core(self, lnc: int | None = None) -> float:
        """Dense bf16 peak of one logical core, operations per second."""
        return self.chip.bf16_flops * self._lnc(lnc) / self.chip.physical_cores

    def _lnc(self, lnc: int | None) -> int:
        chosen = self.default_lnc if lnc is None else lnc
        if chosen not in self.lnc_options:
            options = " or ".join(map(str, self.lnc_options))
            raise ValueError(f"{self.name} cannot run logical core config {chosen}: choose {options}")
        return chosen


INSTANCES: dict[str, Instance] = {
    instance.name: instance
    for instance in (
        Instance("inf2.xlarge", 1, _INFERENTIA2, None, 16 * GIB),  # [arch]
        Instance("inf2.8xlarge", 1, _INFERENTIA2, None, 128 * GIB),  # [arch]
        Instance("inf2.24xlarge", 6, _INFERENTIA2, 192 * GIB, 384 * GIB),  # [arch]
        Instance("inf2.48xlarge", 12, _INFERENTIA2, 192 * GIB, 768 * GIB),  # [arch]
        Instance("trn1.2xlarge", 1, _TRAINIUM1, None, 32 * GIB),  # [arch]
        Instance("trn1.32xlarge", 16, _TRAINIUM1, 384 * GIB, 512 * GIB),  # [arch]
        Instance("trn1n.32xlarge", 16, _TRAINIUM1, 768 * GIB, 512 * GIB),  # [arch]
        Instance("trn2.3xlarge", 1, _TRAINIUM2, None, 128 * GIB),  # [chip]
        Instance("trn2.48xlarge", 16, _TRAINIUM2, 1.28 * TERA, 2048 * GIB),  # [arch]
        Instance("trn2u.48xlarge", 16, _TRAINIUM2, 1.28 * TERA, 2048 * GIB),  # [arch]
    )
}

# A family stands for its largest instance: a program compiled for it runs on all of them.
FAMILIES = {
    "inf2": "inf2.48xlarge",
    "trn1": "trn1.32xlarge",
    "trn1n": "trn1n.32xlarge",
    "trn2": "trn2.48xlarge",
}


def get_instance(name: str) -> Instance:
    """The instance of a product name (`trn1.32xlarge`) or family (`trn1`); ValueError names the known ones."""
    instance = INSTANCES.get(FAMILIES.get(name, name))
    if instance is None:
        raise ValueError(f"unknown instance {name!r}: known are {', '.join([*FAMILIES, *INSTANCES])}")
    return instance


# The second is the older name of the first (NxD 0.15 and the AWS samples still set it).
LNC_VARIABLES = ("NEURON_LOGICAL_NC_CONFIG", "NEURON_RT_VIRTUAL_CORE_SIZE")
# [cores]: the first wins where both are set.
CORE_VARIABLES = ("NEURON_RT_VISIBLE_CORES", "NEURON_RT_NUM_CORES")

_NUMBER = re.compile(r"[0-9]{1,6}")
_CORE_OR_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_LONGEST_SHOWN = 40  # characters of a variable's value in a message


@dataclass(frozen=True, kw_only=True)
class _RuntimeCores:
    """The cores of a machine that the Neuron runtime of one process takes.

    Attributes:
        lnc: physical cores behind a logical one.
        visible: logical cores, as the whole machine counts them.
        chosen_by: the variable that says so, with its value; empty where the process takes all there are.
    """

    lnc: int
    visible: range
    chosen_by: str


def runtime_cores(instance: Instance, environment: Mapping[str, str]) -> _RuntimeCores:
    """Read the variables that the runtime reads when it loads its first program. An empty one counts as unset.

    `NEURON_RT_VISIBLE_CORES` is a core, a range, or a list of cores and ranges, increasing and without gaps, as "3",
    "0-7", "0,1,2-7"; it goes before `NEURON_RT_NUM_CORES`, a number of cores of which 0 means all ([cores]).

    Raises:
        ValueError: a value that the runtime cannot take, or cores that the instance does not have; one line that names
            the variable, its value and what can be set instead.
    """
    lnc = _chosen_lnc(instance, environment)
    present = instance.logical_cores(lnc)
    for variable, read in zip(CORE_VARIABLES, (_listed, _counted)):
        text = environment.get(variable)
        if text:
            try:
                visible = read(text, instance.name, present)
            except ValueError as error:
                raise ValueError(f"{_shown(variable, text)}: {error}; change or unset it") from None
            return _RuntimeCores(lnc=lnc, visible=visible, chosen_by=_shown(variable, text))
    return _RuntimeCores(lnc=lnc, visible=range(present), chosen_by="")


def _chosen_lnc(instance: Instance, environment: Mapping[str, str]) -> int:
    for variable in LNC_VARIABLES:
        text = environment.get(variable)
        if text:
            if text not in map(str, instance.lnc_options):
                options = " or ".join(map(str, instance.lnc_options))
                raise ValueError(f"{_shown(variable, text)}: {instance.name} offers {options}; set it so, or unset it")
            return int(text)
    return instance.default_lnc


def _listed(text: str, name: str, present: int) -> range:
    """The cores that a list names; ValueError says what it should have been."""
    visible = range(0)
    for part in text.split(","):
        found = _CORE_OR_RANGE.fullmatch(part)
        named = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not named or (visible and named.start != visible.stop):
            raise ValueError(
                "write a core (3), a range (0-7) or a list of both (0,1,2-7), increasing and without gaps"
            )
        if named.stop > present:
            raise ValueError(f"{name} has cores 0-{present - 1}")
        visible = range(visible.start, named.stop) if visible else named
    return visible


def _counted(text: str, name: str, present: int) -> range:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"write a number of cores, 0 for all {present}")
    asked = int(text)
    if asked > present:
        raise ValueError(f"{name} has {present} cores")
    return range(asked or present)


def _shown(variable: str, text: str) -> str:
    return f"{variable}={text if len(text) <= _LONGEST_SHOWN else f'{text[:_LONGEST_SHOWN]}...'}"
