"""Emulated neuronxcc.nki.language: launch grids, not the language."""

from optimum_pixart_neuron.emulator.kernels import PhysicalCores


def nc(count: int) -> PhysicalCores:
    """The dimension of a launch grid that spreads a kernel over `count` physical cores of a logical core."""
    return PhysicalCores(count)
