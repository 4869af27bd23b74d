"""Emulated torch_xla.runtime: one process on one host. The ranks of a program are not processes of the user's."""


def device_type() -> str:
    """`CPU`, so that nothing takes this for a TPU or a GPU."""
    return "CPU"


def world_size() -> int:
    """Number of processes; neuronx-distributed replaces this function while it traces for several ranks."""
    return 1


def global_ordinal() -> int:
    """Index of this process among all."""
    return 0


def local_ordinal() -> int:
    """Index of this process on its host."""
    return 0


def process_count() -> int:
    """Number of processes."""
    return 1


def process_index() -> int:
    """Index of this process among all."""
    return 0


def local_process_count() -> int:
    """Number of processes on this host."""
    return 1


def host_index() -> int:
    """Index of this host."""
    return 0


def global_device_count() -> int:
    """Devices of all processes."""
    return 1


def addressable_device_count() -> int:
    """Devices of this process."""
    return 1


def is_spmd() -> bool:
    """Whether torch_xla's own SPMD mode is on; neuronx-distributed does not use it."""
    return False
